use std::{io::stdin, process::ExitCode};

use hitscope_base::{Explain, Failure};
use hitscope_config::Sources;
use hitscope_engine::catalog::{Catalog, Options};

/// `hitscope-server check-rules`, for `hitscope config check`: has each rule's statement planned, which finds wrong syntax and
/// unknown tables and columns. Needs no history. The configuration comes on stdin.
pub fn check() -> Result<ExitCode, Failure> {
    let sources: Sources = serde_json::from_reader(stdin()).explain("cannot read the configuration")?;
    let config = sources.resolve()?;
    super::runtime()?.block_on(async {
        let catalog = Catalog::open(&config.data_dir, Options::default()).explain("cannot check the rules")?;
        for rule in &config.rules {
            if let Err(error) = catalog.query(&format!("EXPLAIN {}", rule.sql)).await {
                let failure = Failure::new(format!("the SQL of the rule {} is wrong: {error}", rule.name));
                return Err(error.hint().into_iter().fold(failure, Failure::help));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
