//! Where the configuration comes from: `hitscope.toml`, secrets from the environment and from files, and what the command line
//! overrides.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use hitscope_base::{Explain, Failure, Secret};
use serde::{Deserialize, Serialize};

use crate::Config;

/// Read when no file is named.
pub const DEFAULT_FILE: &str = "/etc/hitscope/hitscope.toml";
/// Secrets may come from these variables; they win over the file.
const SLACK_TOKEN: &str = "HITSCOPE_SLACK_TOKEN";
const SLACK_WEBHOOK_URL: &str = "HITSCOPE_SLACK_WEBHOOK_URL";
const TOKEN: &str = "HITSCOPE_TOKEN";
const VARIABLES: [&str; 3] = [SLACK_TOKEN, SLACK_WEBHOOK_URL, TOKEN];

/// All that the configuration is made of, so that `hitscope run` can hand it to a server that may read none of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sources {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// Its text.
    text: String,
    /// hitscope's variables.
    environment: BTreeMap<String, String>,
    /// What the files that `…_file` keys name say.
    secret_files: BTreeMap<PathBuf, String>,
    /// `--data-dir`
    data_dir: Option<PathBuf>,
    /// `--listen`
    listen: Option<String>,
    /// The host's name, for when the file does not say one.
    hostname: String,
}

impl Sources {
    /// Reads the file that is named, or the default one where it exists, the environment, and the files with secrets.
    ///
    /// # Errors
    /// When the named file cannot be read, or is not a valid configuration.
    pub fn gather(file: Option<&Path>) -> Result<Self, Failure> {
        let (path, text) = match file {
            Some(path) => {
                let text = fs::read_to_string(path).explain_help(
                    format!("cannot read the configuration {}", path.display()),
                    "name an existing file with --config, or leave that out for the defaults",
                )?;
                (Some(path.to_owned()), text)
            }
            None => match fs::read_to_string(DEFAULT_FILE) {
                Ok(text) => (Some(DEFAULT_FILE.into()), text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (None, String::new()),
                Err(error) => {
                    return Err(error).explain_help(
                        format!("cannot read the configuration {DEFAULT_FILE}"),
                        "run as a user that may read it, or name another file with --config",
                    );
                }
            },
        };
        let environment = VARIABLES
            .iter()
            .filter_map(|name| env::var(name).ok().map(|value| ((*name).to_owned(), value)))
            .filter(|(_, value)| !value.trim().is_empty())
            .collect();
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let mut sources = Self { path, text, environment, hostname, ..Self::default() };
        sources.read_secret_files()?;
        Ok(sources)
    }

    /// The sources with what the command line says.
    ///
    /// # Errors
    /// Those of [`Self::gather`].
    pub fn for_command(file: Option<&Path>, data_dir: Option<&Path>, listen: Option<&str>) -> Result<Self, Failure> {
        let mut sources = Self::gather(file)?;
        if let Some(folder) = data_dir {
            check_local(folder)?;
            let absolute = std::path::absolute(folder);
            sources.data_dir = Some(absolute.explain(format!("cannot use the folder {}", folder.display()))?);
        }
        sources.listen = listen.map(ToOwned::to_owned);
        Ok(sources)
    }

    fn read_secret_files(&mut self) -> Result<(), Failure> {
        let config = self.parse()?;
        let files = [&config.server.token_file, &config.slack.token_file, &config.slack.webhook_url_file];
        for path in files.into_iter().flatten() {
            let text = fs::read_to_string(path).explain_help(
                format!("cannot read the secret in {}", path.display()),
                "the configuration names this file; write the secret into it, readable for the user that hitscope runs as",
            )?;
            self.secret_files.insert(path.clone(), text);
        }
        Ok(())
    }

    /// The configuration in effect.
    ///
    /// # Errors
    /// With file, line and column where the text is not a valid configuration.
    pub fn resolve(&self) -> Result<Config, Failure> {
        let mut config = self.parse()?;
        let secret = |variable: &str, file: &Option<PathBuf>, written: &Option<Secret>| {
            let from_file = || file.as_ref().and_then(|path| self.secret_files.get(path));
            match self.environment.get(variable).or_else(from_file) {
                Some(text) => Some(Secret::new(text)),
                None => written.clone(),
            }
        };
        let (server, slack) = (&config.server, &config.slack);
        let token = secret(TOKEN, &server.token_file, &server.token);
        let slack_token = secret(SLACK_TOKEN, &slack.token_file, &slack.token);
        let webhook_url = secret(SLACK_WEBHOOK_URL, &slack.webhook_url_file, &slack.webhook_url);
        config.server.token = token;
        config.slack.token = slack_token;
        config.slack.webhook_url = webhook_url;

        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        if let Some(listen) = &self.listen {
            config.server.listen.clone_from(listen);
        }
        if config.host.is_empty() {
            config.host.clone_from(&self.hostname);
        }
        config.collector.http.clone_from(&config.http);
        check_local(&config.data_dir)?;
        Ok(config)
    }

    fn parse(&self) -> Result<Config, Failure> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// File, line and column, what is wrong there, and what may have been meant. The line itself is not shown: it may hold a
    /// secret.
    fn explain(&self, error: &toml::de::Error) -> Failure {
        let file = self.path.as_deref().map_or_else(|| "the configuration".into(), |path| path.display().to_string());
        let place = match error.span() {
            Some(span) => {
                let before = &self.text[..floor_char_boundary(&self.text, span.start)];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
                format!("{file}:{line}:{column}")
            }
            None => file,
        };
        let message = error.message().lines().next().unwrap_or_default();
        match UnknownKey::read(message) {
            Some(unknown) => Failure::new(format!("{place}: unknown key `{}`", unknown.key)).help(unknown.suggestion()),
            None => Failure::new(format!("{place}: {message}")).help("`hitscope config check FILE` checks a file"),
        }
    }
}

fn check_local(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.to_string_lossy().contains("://") {
        return Err(Failure::new(format!("cannot use {}: it is not a local folder", data_dir.display()))
            .help("copy the history to a local folder first, and name that with --data-dir"));
    }
    Ok(())
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// serde's words for an unknown key: "unknown field `a`, expected one of `b`, `c`".
struct UnknownKey<'a> {
    key: &'a str,
    expected: Vec<&'a str>,
}

impl<'a> UnknownKey<'a> {
    fn read(message: &'a str) -> Option<Self> {
        let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
        Some(Self { key: quoted.next()?, expected: quoted.collect() })
    }

    fn suggestion(&self) -> String {
        did_you_mean(self.key, &self.expected)
    }
}

/// What may have been meant by a key that is none, or which keys there are.
pub fn did_you_mean(key: &str, known: &[&str]) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(key, known);
    match known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) if likeness(&nearest) > 0.75 => format!("did you mean `{nearest}`?"),
        Some(_) => format!("the keys here are {}", known.join(", ")),
        None => "there are no keys here; remove it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        Sources {
            path: Some("/x/hitscope.toml".into()),
            text: text.into(),
            hostname: "db1".into(),
            ..Sources::default()
        }
    }

    fn refused(text: &str) -> String {
        sources(text).resolve().unwrap_err().report()
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = sources("").resolve().unwrap();
        assert_eq!(config.data_dir, Path::new("/var/lib/hitscope"));
        assert_eq!(config.host, "db1");
        assert_eq!(config.server.listen, "127.0.0.1:7460");
    }

    #[test]
    fn what_is_in_effect_can_be_read_back() {
        let config = sources("host = \"db2\"\n[history]\nmax_age = \"7d\"\n").resolve().unwrap();
        let text = toml::to_string(&config).unwrap();
        let again = sources(&text).resolve().unwrap();
        assert_eq!(again.host, "db2");
        assert_eq!(toml::to_string(&again).unwrap(), text);
    }

    #[test]
    fn an_unknown_key_has_a_place_and_a_suggestion() {
        assert_eq!(
            refused("host = \"a\"\n\n[history]\n  max_ages = \"3d\"\n"),
            "error: /x/hitscope.toml:4:3: unknown key `max_ages`\nhelp: did you mean `max_age`?"
        );
        assert!(refused("datadir = \"/x\"").ends_with("did you mean `data_dir`?"));
        let unlike = refused("[history]\ncolour = 1\n");
        assert!(unlike.ends_with("help: the keys here are max_age, max_bytes"), "{unlike}");
    }

    #[test]
    fn a_wrong_value_has_a_place() {
        let report = refused("[history]\nmax_age = \"soon\"\n");
        assert!(report.starts_with("error: /x/hitscope.toml:2:11: \"soon\" is not a duration"), "{report}");
        let report = refused("[http]\npatterns = [\"users\"]\n");
        assert!(report.starts_with("error: /x/hitscope.toml:2:12: \"users\" is no pattern"), "{report}");
        let report = refused("host = [\n");
        assert!(report.starts_with("error: /x/hitscope.toml:1:"), "{report}");
        let report = refused("[server]\ntoken = \"hushhush\"\nlisten = 1\n");
        assert!(report.starts_with("error: /x/hitscope.toml:3:10") && !report.contains("hushhush"), "{report}");
    }

    #[test]
    fn secrets_come_from_the_environment_then_files_then_the_text() {
        let mut sources = sources("[slack]\nchannel = \"#ops\"\ntoken = \"written\"\ntoken_file = \"/run/token\"\n");
        let token = |sources: &Sources| sources.resolve().unwrap().slack.token.unwrap().expose().to_owned();
        assert_eq!(token(&sources), "written");
        sources.secret_files.insert("/run/token".into(), "in-file\n".into());
        assert_eq!(token(&sources), "in-file");
        sources.environment.insert(SLACK_TOKEN.into(), "in-environment".into());
        assert_eq!(token(&sources), "in-environment");
        let shown = toml::to_string(&sources.resolve().unwrap()).unwrap();
        assert!(shown.contains("<hidden>") && !shown.contains("in-environment"), "{shown}");
    }

    #[test]
    fn the_command_line_wins_and_buckets_are_refused() {
        let mut sources = sources("data_dir = \"/a\"\n[server]\nlisten = \"127.0.0.1:1\"\n");
        sources.data_dir = Some("/b".into());
        sources.listen = Some("127.0.0.1:2".into());
        let config = sources.resolve().unwrap();
        assert_eq!((config.data_dir.as_path(), config.server.listen.as_str()), (Path::new("/b"), "127.0.0.1:2"));
        assert!(refused("data_dir = \"s3://bucket/x\"").contains("not a local folder"));
    }
}
