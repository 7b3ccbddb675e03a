use std::process::ExitCode;

use hitscope_base::{Explain, Failure};
use hitscope_cli::{AlertsAdopt, AlertsTest, print};
use hitscope_config::{Config, Rule};
use hitscope_server::alerts::{self, Finding};
use hitscope_slack::{Attachment, Block, Color, Message, RetryPolicy};

/// So many rows are shown.
const LISTED: usize = 100;

/// `hitscope alerts test`
pub fn test(arguments: &AlertsTest) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    let rule = find(&config.rules, &arguments.rule)?;
    super::runtime()?.block_on(async {
        let catalog = super::open(&config)?;
        let findings = alerts::test(rule, &catalog).await.map_err(super::explain)?;
        print!("{}", report(rule, &findings));
        if arguments.send {
            send(&config, rule, &findings).await?;
            println!("a test message was sent to Slack");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `hitscope alerts adopt`
pub fn adopt(arguments: &AlertsAdopt) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    super::require_folder(&config.data_dir)?;
    let folder = config.data_dir.display();
    alerts::adopt(&config.data_dir).explain_help(
        format!("cannot adopt the folder {folder}"),
        "run as root, or as the user that the server runs as",
    )?;
    println!("alerts of {folder} are told by the server over it, from now on or from its start on");
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(rules: &'a [Rule], name: &str) -> Result<&'a Rule, Failure> {
    rules.iter().find(|rule| rule.name == name).ok_or_else(|| {
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let help = match names.is_empty() {
            true => "the configuration has no [[rules]]; name another file with --config".into(),
            false => format!("the rules are {}", names.join(", ")),
        };
        Failure::new(format!("there is no rule named {name}")).help(help)
    })
}

fn report(rule: &Rule, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{}: would not fire, its statement gives no rows\n", rule.name);
    }
    let held = if rule.hold.0.is_zero() { String::new() } else { format!(" when this holds for {}", rule.hold) };
    let mut rows: Vec<Vec<String>> =
        findings.iter().take(LISTED).map(|finding| vec![String::new(), line(finding)]).collect();
    if findings.len() > LISTED {
        rows.push(vec![String::new(), format!("and {} more", findings.len() - LISTED)]);
    }
    format!("{} ({}): would fire{held}\n{}", rule.name, rule.severity.as_str(), print::columns(&rows))
}

fn line(finding: &Finding) -> String {
    let labels = finding.labels.iter().map(|(name, text)| format!("{name}={text}"));
    let value = finding.value.map(|value| format!("value {value}"));
    let line: Vec<String> = labels.chain(value).collect();
    if line.is_empty() { "a row".into() } else { line.join(", ") }
}

async fn send(config: &Config, rule: &Rule, findings: &[Finding]) -> Result<(), Failure> {
    let slack = alerts::slack_client(&config.slack).explain("cannot send to Slack")?.ok_or_else(|| {
        Failure::new("cannot send to Slack: no token and no webhook is configured")
            .help("set slack.token and slack.channel, or slack.webhook_url")
    })?;
    let title = format!("Test of the rule {} on {}", rule.name, config.host);
    let attachment =
        Attachment::new(Color::Rgb(0x25_63eb)).fallback(title.clone()).block(Block::section(report(rule, findings)));
    let mut message = Message::new(title).attachment(attachment);
    if let Some(channel) = &config.slack.channel {
        message = message.channel(channel);
    }
    let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    slack.post_message(message).send_with_retry(policy).await.explain("cannot send to Slack")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        toml::from_str("name = \"slow\"\nsql = \"SELECT 1\"\nhold = \"1m\"").unwrap()
    }

    #[test]
    fn a_report_says_whether_and_why_it_would_fire() {
        assert_eq!(report(&rule(), &[]), "slow: would not fire, its statement gives no rows\n");
        let labels = [("service".to_owned(), "db".to_owned())].into();
        let text = report(&rule(), &[Finding { labels, value: Some(7.5), detail: None }, Finding::default()]);
        assert_eq!(text, "slow (warning): would fire when this holds for 1m\n  service=db, value 7.5\n  a row\n");
        let text = report(&rule(), &vec![Finding::default(); 102]);
        assert!(text.ends_with("  a row\n  and 2 more\n"), "{text}");
    }

    #[test]
    fn an_unknown_rule_lists_the_known() {
        assert!(find(&[rule()], "slwo").unwrap_err().report().ends_with("help: the rules are slow"));
        assert!(find(&[], "x").unwrap_err().report().contains("no [[rules]]"));
    }
}
