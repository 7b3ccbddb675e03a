use std::process::ExitCode;

use hitscope_server::catalog::Catalog;

use crate::{
    cli::ConfigCheck,
    config::{Config, Sources},
    failure::{Explain, Failure},
};

/// `hitscope config check`
pub fn check(arguments: &ConfigCheck) -> Result<ExitCode, Failure> {
    let sources = Sources::gather(arguments.file.as_deref())?;
    let config = sources.resolve()?;
    config.validate()?;
    check_rules(&config)?;
    let text = toml::to_string(&config).explain("cannot write the configuration")?;
    match &sources.path {
        Some(path) => println!("# {} is valid; in effect, defaults included, is:", path.display()),
        None => println!("# There is no configuration file; in effect are the defaults:"),
    }
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Has each rule's statement planned, which finds wrong syntax and unknown tables and columns. Needs no history.
fn check_rules(config: &Config) -> Result<(), Failure> {
    if config.rules.is_empty() {
        return Ok(());
    }
    super::runtime()?.block_on(async {
        let catalog = Catalog::open(&config.data_dir, config.server.catalog()).explain("cannot check the rules")?;
        for rule in &config.rules {
            if let Err(error) = catalog.query(&format!("EXPLAIN {}", rule.sql)).await {
                let failure = Failure::new(format!("the SQL of the rule {} is wrong: {error}", rule.name));
                return Err(error.hint().into_iter().fold(failure, Failure::help));
            }
        }
        Ok(())
    })
}
