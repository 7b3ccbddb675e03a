use std::{
    fs::{self, File},
    io::{BufWriter, IsTerminal, Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use futures::StreamExt;
use hitscope_server::{
    catalog::{self, Catalog},
    output::{Format, Writer},
};

use crate::{
    cli::{self, QueryFormat},
    config::Sources,
    failure::{Explain, Failure},
    progress::Progress,
};

/// `hitscope query`
pub fn query(arguments: &cli::Query) -> Result<ExitCode, Failure> {
    let config = Sources::for_command(&arguments.place, None)?.resolve()?;
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
    runtime.block_on(async {
        // A query on the command line may take as long as its user waits.
        let options = catalog::Options { timeout: None, ..config.server.catalog() };
        let catalog = open(&config.data_dir, options)?;
        match &arguments.output {
            Some(path) => {
                let temporary = Temporary::beside(path);
                let file = File::create(&temporary.0).explain(format!("cannot write {}", path.display()))?;
                answer(&catalog, &arguments.sql, format, BufWriter::new(file)).await?;
                fs::rename(&temporary.0, path).explain(format!("cannot write {}", path.display()))
            }
            None => answer(&catalog, &arguments.sql, format, BufWriter::new(stdout())).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The catalog over a folder.
pub fn open(data_dir: &Path, options: catalog::Options) -> Result<Catalog, Failure> {
    if !data_dir.is_dir() {
        return Err(Failure::new(format!("cannot read the data folder {}: there is none", data_dir.display()))
            .help("name the folder that `hitscope run` writes to with --data-dir"));
    }
    Catalog::open(data_dir, options).explain("cannot open the history")
}

/// A statement's error with its hint.
pub fn explain(error: catalog::Error) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(format!("the query failed: {error}"));
    match hint {
        Some(hint) => failure.help(hint),
        None => failure,
    }
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

/// A file that is written under another name first, so that a failed query leaves none behind.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self(path.with_file_name(format!(".{name}.{}.tmp", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a success.
        let _ = fs::remove_file(&self.0);
    }
}
