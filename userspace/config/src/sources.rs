//! Where the configuration comes from: `hitscope.toml`, what lies beside it in `hitscope.d`, secrets from the environment and
//! from files, and what the command line overrides.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use hitscope_base::{Explain, Failure, Secret};
use serde::{Deserialize, Serialize};
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use crate::{Config, Invalid};

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
    /// `hitscope.toml`, if there is one, and then what lies in `hitscope.d`.
    files: Vec<Source>,
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

/// A file of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(path: &Path, help: &str) -> Result<Self, Failure> {
        let text =
            fs::read_to_string(path).explain_help(format!("cannot read the configuration {}", path.display()), help)?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// File, line and column of a byte in it.
    fn place(&self, byte: usize) -> String {
        let before = &self.text[..floor_char_boundary(&self.text, byte)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// File, line and column, what is wrong there, and what may have been meant. The line itself is not shown: it may hold a
    /// secret.
    fn explain(&self, error: &toml::de::Error) -> Failure {
        let place = error.span().map_or_else(|| self.path.display().to_string(), |span| self.place(span.start));
        let message = error.message().lines().next().unwrap_or_default();
        match UnknownKey::read(message) {
            Some(unknown) => Failure::new(format!("{place}: unknown key `{}`", unknown.key)).help(unknown.suggestion()),
            None => Failure::new(format!("{place}: {message}")).help("`hitscope config check FILE` checks a file"),
        }
    }

    /// Where a key's value is, such as `server.listen` or `rules.NAME`; of several the last.
    fn find(&self, key: &str) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        if let Some(name) = key.strip_prefix("rules.") {
            let rules = table.get_ref().get("rules")?.get_ref().as_array()?.iter();
            let mut names = rules.filter_map(|rule| rule.get_ref().as_table()?.get("name"));
            return names.rfind(|rule| rule.get_ref().as_str() == Some(name)).map(|rule| rule.span().start);
        }
        let mut keys = key.split('.');
        let mut value = table.get_ref().get(keys.next()?)?;
        for key in keys {
            value = value.get_ref().as_table().and_then(|table: &DeTable<'_>| table.get(key))?;
        }
        match value.get_ref() {
            // A section has no one place.
            DeValue::Table(_) => None,
            _ => Some(value.span().start),
        }
    }
}

impl Sources {
    /// Reads the file that is named, or the default one where it exists, the folder beside it, the environment, and the files
    /// with secrets.
    ///
    /// # Errors
    /// When the named file cannot be read, or one is not a valid configuration.
    pub fn gather(file: Option<&Path>) -> Result<Self, Failure> {
        Self::gather_from(file, Path::new(DEFAULT_FILE))
    }

    fn gather_from(named: Option<&Path>, default: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        match named {
            Some(path) => files
                .push(Source::read(path, "name an existing file with --config, or leave that out for the defaults")?),
            None if !is_missing(default) => {
                files
                    .push(Source::read(default, "run as a user that may read it, or name another file with --config")?);
            }
            None => {}
        }
        for path in drop_ins(named.unwrap_or(default))? {
            files.push(Source::read(&path, "run as a user that may read it, or remove it")?);
        }
        let environment = VARIABLES
            .iter()
            .filter_map(|name| env::var(name).ok().map(|value| ((*name).to_owned(), value)))
            .filter(|(_, value)| !value.trim().is_empty())
            .collect();
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let mut sources = Self { files, environment, hostname, ..Self::default() };
        sources.read_secret_files()?;
        Ok(sources)
    }

    /// The files that there are, in the order in which they take effect.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
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

    /// The configuration in effect, checked as a whole.
    ///
    /// # Errors
    /// Those of [`Self::resolve`] and of [`Config::validate`], with file, line and column where a file is to blame.
    pub fn valid(&self) -> Result<Config, Failure> {
        let config = self.resolve()?;
        config.validate().map_err(|invalid| self.blame(&invalid))?;
        Ok(config)
    }

    /// What is wrong with the whole, at the place that says so last.
    pub fn blame(&self, invalid: &Invalid) -> Failure {
        let found = self.files.iter().rev().find_map(|file| Some(file.place(file.find(&invalid.key)?)));
        match found {
            Some(place) => invalid.failure(&format!("{place}: ")),
            None => invalid.failure(""),
        }
    }

    /// All files as one: of a key that is in several the last wins, rules come together.
    fn parse(&self) -> Result<Config, Failure> {
        let mut whole = Table::new();
        for file in &self.files {
            // By itself, so that what is wrong has its place.
            file.parse::<Config>()?;
            merge(&mut whole, file.parse()?);
        }
        whole.try_into().explain("the files of the configuration do not go together")
    }
}

/// Lays one file's keys over those of the files before.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(before)), Value::Table(table)) => merge(before, table),
            (Some(Value::Array(before)), Value::Array(more)) if key == "rules" => before.extend(more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The `*.toml` in the folder named like the file with `.d`, by their names.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = file.with_extension("d");
    let what = || format!("cannot read the configuration's folder {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.explain_help(what(), "run as a user that may read it")?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.explain(what())?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
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
            files: vec![Source { path: "/x/hitscope.toml".into(), text: text.into() }],
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

    /// A folder with `hitscope.toml` and these drop-ins, gathered.
    fn gathered(text: &str, drop_ins: &[(&str, &str)]) -> (tempfile::TempDir, Result<Sources, Failure>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hitscope.toml");
        fs::write(&file, text).unwrap();
        let beside = folder.path().join("hitscope.d");
        fs::create_dir(&beside).unwrap();
        for (name, text) in drop_ins {
            fs::write(beside.join(name), text).unwrap();
        }
        let sources = Sources::gather_from(None, &file);
        (folder, sources)
    }

    #[test]
    fn of_drop_ins_the_last_wins_each_key_and_rules_come_together() {
        let rule = |name: &str| format!("[[rules]]\nname = \"{name}\"\nsql = \"SELECT 1\"\n");
        let (folder, sources) = gathered(
            &format!("[history]\nmax_age = \"7d\"\nmax_bytes = \"1GiB\"\n{}", rule("a")),
            &[
                ("20.toml", &format!("[history]\nmax_age = \"9d\"\n{}", rule("c"))),
                ("10.toml", &format!("host = \"db2\"\n[history]\nmax_age = \"8d\"\n{}", rule("b"))),
                (".30.toml", "nonsense"),
                ("README", "nonsense"),
            ],
        );
        let sources = sources.unwrap();
        let config = sources.valid().unwrap();
        assert_eq!(
            (config.history.max_age.to_string(), config.history.max_bytes.to_string()),
            ("9d".into(), "1GiB".into())
        );
        assert_eq!(config.host, "db2");
        assert_eq!(config.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let names: Vec<_> = sources.paths().map(|path| path.strip_prefix(folder.path()).unwrap().to_owned()).collect();
        assert_eq!(names, ["hitscope.toml", "hitscope.d/10.toml", "hitscope.d/20.toml"].map(PathBuf::from));
    }

    #[test]
    fn what_is_wrong_in_a_drop_in_has_its_place() {
        let (folder, sources) = gathered("", &[("10.toml", "[history]\nmax_ages = \"8d\"\n")]);
        let place = folder.path().join("hitscope.d/10.toml").display().to_string();
        assert!(sources.unwrap_err().report().starts_with(&format!("error: {place}:2:1: unknown key `max_ages`")));

        let (folder, sources) =
            gathered("[server]\nquery_timeout = \"5s\"\n", &[("10.toml", "[server]\nquery_timeout = \"0s\"\n")]);
        let place = folder.path().join("hitscope.d/10.toml").display().to_string();
        let report = sources.unwrap().valid().unwrap_err().report();
        assert!(report.starts_with(&format!("error: {place}:2:17: server.query_timeout is ")), "{report}");

        let rule = "[[rules]]\nname = \"a\"\nsql = \"SELECT 1\"\n";
        let (folder, sources) = gathered(rule, &[("10.toml", &format!("\n{rule}"))]);
        let place = folder.path().join("hitscope.d/10.toml").display().to_string();
        let report = sources.unwrap().valid().unwrap_err().report();
        assert!(report.starts_with(&format!("error: {place}:3:8: two rules are named a")), "{report}");
    }

    #[test]
    fn without_any_file_there_are_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::gather_from(None, &folder.path().join("hitscope.toml")).unwrap();
        assert_eq!(sources.paths().count(), 0);
        sources.valid().unwrap();
        let missing = Sources::gather_from(Some(&folder.path().join("x.toml")), Path::new(DEFAULT_FILE));
        assert!(missing.unwrap_err().report().contains("x.toml"));
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let text = include_str!("../../../packaging/hitscope.toml");
        let mut example = sources(text).resolve().unwrap();
        assert_eq!(example.host, "db1");
        example.host.clear();
        example.rules.clear();
        assert_eq!(toml::to_string(&example).unwrap(), toml::to_string(&Config::default()).unwrap());
        let table: Table = toml::from_str(text).unwrap();
        let defaults: Table = toml::from_str(&toml::to_string(&Config::default()).unwrap()).unwrap();
        // The rule in it is a comment.
        for (section, keys) in defaults.iter().filter(|(section, _)| *section != "rules") {
            let there = table.get(section).unwrap_or_else(|| panic!("the example lacks {section}"));
            for key in keys.as_table().into_iter().flat_map(Table::keys) {
                assert!(there.get(key).is_some(), "the example lacks {section}.{key}");
            }
        }
    }
}
