use std::{
    io::{self, BufWriter, IsTerminal, Write, stdout},
    process::ExitCode,
};

use futures::StreamExt;
use hitscope_base::{Durability, Explain, Failure, replace_file};
use hitscope_cli::{Progress, Query, QueryFormat};
use hitscope_engine::{
    catalog::Catalog,
    output::{Format, Writer},
};

use super::explain;

/// `hitscope query`
pub fn query(arguments: &Query) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    let format = match arguments.format {
        QueryFormat::Table => Format::Table,
        QueryFormat::Csv => Format::Csv,
        QueryFormat::Json => Format::Json,
        QueryFormat::Parquet => Format::Parquet,
    };
    if format == Format::Parquet && arguments.output.is_none() && stdout().is_terminal() {
        return Err(Failure::new("cannot write Parquet to a terminal: it is not text")
            .help("name a file with --output, or pipe it to another program"));
    }
    let runtime = super::runtime()?;
    let catalog = super::open(&config)?;
    match &arguments.output {
        Some(path) => {
            // A query that fails leaves no file behind.
            let mut failed = Ok(());
            let written = replace_file(path, 0o666, Durability::Volatile, |file| {
                failed = runtime.block_on(answer(&catalog, &arguments.sql, format, BufWriter::new(file)));
                failed.as_ref().map_err(|_| io::Error::other("the query failed")).copied()
            });
            failed?;
            written.explain(format!("cannot write {}", path.display()))?;
        }
        None => runtime.block_on(answer(&catalog, &arguments.sql, format, BufWriter::new(stdout())))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn answer<W: Write + Send>(catalog: &Catalog, sql: &str, format: Format, output: W) -> Result<(), Failure> {
    let progress = Progress::of("running the query");
    let mut rows = catalog.stream(sql).await.map_err(explain)?;
    let mut writer = Writer::new(format, &rows.schema(), output).explain("the query failed")?;
    while let Some(batch) = rows.next().await {
        writer.write(batch.map_err(explain)?).explain("the query failed")?;
    }
    drop(progress);
    writer.finish().explain("the query failed")
}
