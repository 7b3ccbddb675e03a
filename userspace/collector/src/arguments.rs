//! What is stored of a command line: without the secrets that stand in it.
//!
//! What is a secret can only be guessed: by the names of options and variables, by the places where well-known programs and URLs
//! have passwords, and by how tokens look. Whoever cannot afford a wrong guess keeps the program alone.

use std::{borrow::Cow, sync::Arc};

use hitscope_config::Arguments;

/// Stands for what was taken out.
const HIDDEN: &str = "…";

/// Parts of names whose values are secrets.
const SECRET: [&str; 10] =
    ["pass", "pwd", "token", "secret", "credential", "apikey", "api-key", "api_key", "cookie", "signature"];
/// Names that contain one of those, or end like one, and have no secret.
const HARMLESS: [&str; 8] =
    ["passive", "bypass", "passthrough", "pass-through", "passenger", "tokenize", "compass", "passes"];
/// The value is where the secret lies, not the secret.
const PLACES: [&str; 5] = ["file", "path", "dir", "command", "env"];

/// Programs, by the start of their names, with the short option that takes a password, and whether it may follow as a word.
const SHORT: [(&str, char, bool); 10] = [
    ("mysql", 'p', false),
    ("mariadb", 'p', false),
    ("mongo", 'p', true),
    ("sshpass", 'p', true),
    ("redis-", 'a', true),
    ("valkey-", 'a', true),
    ("keydb-", 'a', true),
    ("ldap", 'w', true),
    ("curl", 'u', true),
    ("smbclient", 'U', true),
];

/// How tokens of well-known services begin.
const TOKENS: [&str; 16] = [
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk_live_",
    "AKIA",
    "AIza",
    "eyJ",
    "npm_",
    "hvs.",
];
/// Names of headers whose values are secrets.
const HEADERS: [&str; 5] = ["authorization:", "cookie:", "x-api-key:", "x-auth-token:", "private-token:"];

/// Longest word that is no token, where it looks like one.
const WORD_BYTES: usize = 20;

/// A command line as it is stored; its words are apart by zeros, or, where there are none, by blanks.
pub fn stored(line: &str, arguments: Arguments) -> Arc<str> {
    let apart = if line.contains('\0') { '\0' } else { ' ' };
    match arguments {
        Arguments::Program => line.split(apart).next().unwrap_or_default().into(),
        Arguments::Full => line.replace('\0', " ").into(),
        Arguments::Redacted => redact(line.split(apart)).into(),
    }
}

fn redact<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    let mut program = "";
    // The word before was the name of a secret.
    let mut named = false;
    for (index, word) in words.enumerate() {
        if index > 0 {
            line.push(' ');
        }
        let option = word.starts_with('-');
        if named && !option && !word.is_empty() {
            line.push_str(HIDDEN);
            named = false;
            continue;
        }
        let name = word.rsplit('/').next().unwrap_or(word);
        if SHORT.iter().any(|(start, ..)| name.starts_with(start)) {
            program = name;
        }
        let short = SHORT.iter().find(|(start, ..)| program.starts_with(start)).filter(|(_, letter, _)| {
            let mut letters = word.chars();
            letters.next() == Some('-') && letters.next() == Some(*letter)
        });
        named = match short {
            Some((_, _, follows)) if word.len() == 2 => *follows,
            Some(_) => false,
            None => option && !word.contains('=') && is_secret(word),
        };
        match short {
            Some(_) if word.len() > 2 => {
                line.push_str(&word[..2]);
                line.push_str(HIDDEN);
            }
            // A script, or several settings in one.
            _ if word.contains(' ') => line.push_str(&within(word)),
            _ => line.push_str(&one(word)),
        }
    }
    line
}

/// A word with blanks in it.
fn within(word: &str) -> String {
    // ASCII alone is folded, so places stay the same.
    let lower = word.to_ascii_lowercase();
    let header = HEADERS.iter().filter_map(|name| Some(lower.find(name)? + name.len())).min();
    match header {
        None => redact(word.split(' ')),
        Some(end) => {
            // Up to the quote that ends it, in a script.
            let after = word[end..].find(['"', '\'']).map_or("", |quote| &word[end + quote..]);
            let before = redact(word[..end].split(' '));
            let after = if after.contains(' ') { within(after) } else { one(after).into_owned() };
            format!("{before} {HIDDEN}{after}")
        }
    }
}

/// A word without blanks.
fn one(word: &str) -> Cow<'_, str> {
    let lower = word.to_ascii_lowercase();
    if let Some(end) = HEADERS.iter().filter_map(|name| Some(lower.find(name)? + name.len())).min()
        && end < word.len()
    {
        return format!("{}{HIDDEN}", &word[..end]).into();
    }
    let word = without_userinfo(word);
    let separators = ['&', ';', ',', '?'];
    if !word.contains('=') {
        return if is_token(&word) { HIDDEN.into() } else { word };
    }
    let mut redacted = String::with_capacity(word.len());
    for piece in word.split_inclusive(separators) {
        let (setting, separator) = match piece.strip_suffix(separators) {
            Some(setting) => piece.split_at(setting.len()),
            None => (piece, ""),
        };
        match setting.split_once('=') {
            Some((name, value)) if !value.is_empty() && (is_secret(name) || is_token(value)) => {
                redacted.extend([name, "=", HIDDEN]);
            }
            _ => redacted.push_str(setting),
        }
        redacted.push_str(separator);
    }
    redacted.into()
}

/// `scheme://user:password@host` without the password, each time that it occurs.
fn without_userinfo(word: &str) -> Cow<'_, str> {
    let Some(start) = word.find("://").map(|at| at + 3) else { return word.into() };
    let rest = &word[start..];
    let end = rest.find(['/', '?', '#', '"', '\'', '<', '>']).unwrap_or(rest.len());
    // A password may hold any of those unescaped; then what follows a colon up to the last `@` is taken for it.
    let at = rest[..end].rfind('@').or_else(|| rest.rfind('@').filter(|at| rest[..*at].contains(':')));
    let (before, after) = rest.split_at(at.unwrap_or(0));
    match before.split_once(':') {
        Some((user, _)) => format!("{}{user}:{HIDDEN}{}", &word[..start], without_userinfo(after)).into(),
        None => format!("{}{before}{}", &word[..start], without_userinfo(after)).into(),
    }
}

/// Whether what such an option or variable has is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase();
    let ends = |end: &&str| name.ends_with(*end);
    let key = name == "key" || ["-key", "_key", ".key", "accesskey", "secretkey"].iter().any(ends);
    let contains = |part: &&str| name.contains(*part);
    (key || SECRET.iter().any(contains)) && !HARMLESS.iter().any(contains) && !PLACES.iter().any(ends)
}

/// Whether a word looks like a token: made of letters of both cases and digits, long, and no path.
fn is_token(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'']);
    if word.len() < WORD_BYTES || word.contains(['/', '\\', ':', '@', '(', '[', '{', '<', '$', '*', '%', '|']) {
        return false;
    }
    if TOKENS.iter().any(|start| word.starts_with(start)) {
        return true;
    }
    let count = |is: fn(&u8) -> bool| word.bytes().filter(is).count();
    let (upper, lower, digits) =
        (count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase), count(u8::is_ascii_digit));
    // Names have their words' first letters large, and few digits.
    let changes =
        word.as_bytes().windows(2).filter(|two| two[0].is_ascii_uppercase() != two[1].is_ascii_uppercase()).count();
    !word.contains(['.', '=']) && upper >= 3 && lower >= 3 && digits >= 3 && changes >= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: &str) {
        assert_eq!(&*stored(&words.join("\0"), Arguments::Redacted), expected);
    }

    #[test]
    fn passwords_of_options() {
        check(&["mariadb", "-uann", "-pZq7topsecret", "-e", "SELECT 1"], "mariadb -uann -p… -e SELECT 1");
        check(&["/usr/bin/mysqldump", "-p", "shop"], "/usr/bin/mysqldump -p shop");
        check(&["redis-cli", "-a", "hunter2", "-p", "6380"], "redis-cli -a … -p 6380");
        check(
            &["python3", "-c", "pass", "--password=x1", "--api-key", "x2", "-v"],
            "python3 -c pass --password=… --api-key … -v",
        );
        check(&["x", "--token", "--verbose"], "x --token --verbose");
        check(
            &["java", "-Dspring.datasource.password=x", "-jar", "a.jar"],
            "java -Dspring.datasource.password=… -jar a.jar",
        );
        check(&["env", "PGPASSWORD=x", "psql", "-h", "db"], "env PGPASSWORD=… psql -h db");
        check(&["curl", "-u", "ann:x", "https://h/"], "curl -u … https://h/");
        check(&["ssh", "-p22", "host"], "ssh -p22 host");
        check(&["mkdir", "-p", "/a/b"], "mkdir -p /a/b");
        check(&["nginx", "--password-file=/etc/x", "--passive"], "nginx --password-file=/etc/x --passive");
    }

    #[test]
    fn passwords_in_addresses_and_headers() {
        check(
            &["psql", "postgres://u:p@db:5432/shop?sslmode=require"],
            "psql postgres://u:…@db:5432/shop?sslmode=require",
        );
        check(&["psql", "host=db password=x user=u"], "psql host=db password=… user=u");
        check(&["x", "redis://:p@h/0", "amqp://u:a@b@h"], "x redis://:…@h/0 amqp://u:…@h");
        check(&["curl", "-H", "Authorization: Bearer abc.def", "https://h"], "curl -H Authorization: … https://h");
        check(&["curl", "https://h/a?page=2&access_token=x&n=1"], "curl https://h/a?page=2&access_token=…&n=1");
        check(
            &["sh", "-c", "sleep 9; : postgresql://ann:x@127.0.0.1/shop; mysql -px -uann"],
            "sh -c sleep 9; : postgresql://ann:…@127.0.0.1/shop; mysql -p… -uann",
        );
        check(
            &["sh", "-c", "curl -H 'Authorization: Basic x y' https://h"],
            "sh -c curl -H 'Authorization: …' https://h",
        );
        check(&["wget", "https://h/a@b:c"], "wget https://h/a@b:c");
    }

    #[test]
    fn tokens_by_their_looks() {
        check(&["bot", "xoxb-123456789012-abcdefghij"], "bot …");
        check(&["bot", "kJ8xQ2wErT5yUi9OpA3sDfG7"], "bot …");
        check(&["x", "--id=kJ8xQ2wErT5yUi9OpA3sDfG7"], "x --id=…");
        for harmless in [
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "/usr/lib/postgresql/15/bin/postgres",
            "-Xmx4096m",
            "org.elasticsearch.bootstrap.Elasticsearch",
            "--enable-features=NetworkServiceInProcess2,WebUIDarkMode",
        ] {
            check(&["x", harmless], &format!("x {harmless}"));
        }
    }

    #[test]
    fn titles_stay_and_nothing_is_made_of_nothing() {
        check(&["postgres: walwriter "], "postgres: walwriter ");
        check(&[""], "");
        check(&["x", "", "--password", "", "y"], "x  --password  y");
    }

    #[test]
    fn less_or_all_where_the_configuration_says_so() {
        let line = "/bin/x\0--password\0y";
        assert_eq!(&*stored(line, Arguments::Program), "/bin/x");
        assert_eq!(&*stored("postgres: writer", Arguments::Program), "postgres:");
        assert_eq!(&*stored(line, Arguments::Full), "/bin/x --password y");
    }

    /// Whatever stands there.
    #[test]
    fn no_line_breaks_it() {
        for seed in 0..2000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let line: String = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ["-p", "=", "://", "@", ":", " ", "\0", "é…", "mysql", "Authorization:", "password", "'", "?", "x"]
                    [state as usize % 14]
            })
            .take(30)
            .collect();
            stored(&line, Arguments::Redacted);
        }
    }
}
