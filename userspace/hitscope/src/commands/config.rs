use std::process::{Command, ExitCode, Stdio};

use hitscope_base::{Explain, Failure};
use hitscope_config::Sources;

use crate::{cli::ConfigCheck, sibling};

/// `hitscope config check`
pub fn check(arguments: &ConfigCheck) -> Result<ExitCode, Failure> {
    let sources = Sources::gather(arguments.file.as_deref())?;
    let config = super::valid(&sources)?;
    if !config.rules.is_empty() && !check_rules(&sources)? {
        return Ok(ExitCode::FAILURE);
    }
    let text = toml::to_string(&config).explain("cannot write the configuration")?;
    let paths: Vec<String> = sources.paths().map(|path| path.display().to_string()).collect();
    match paths.as_slice() {
        [] => println!("# There is no configuration file; in effect are the defaults:"),
        [path] => println!("# {path} is valid; in effect, defaults included, is:"),
        _ => println!("# {} are valid; in effect, defaults included, is:", paths.join(", ")),
    }
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Has the statements of the rules planned by the program that runs them; it says itself what is wrong.
fn check_rules(sources: &Sources) -> Result<bool, Failure> {
    const WHAT: &str = "cannot check the rules";
    let mut server = Command::new(sibling::find()?).arg("check-rules").stdin(Stdio::piped()).spawn().explain(WHAT)?;
    if let Some(pipe) = server.stdin.take() {
        serde_json::to_writer(pipe, sources).explain(WHAT)?;
    }
    Ok(server.wait().explain(WHAT)?.success())
}
