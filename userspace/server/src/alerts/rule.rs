//! `[[rules]]` of the configuration, and what their SQL finds.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
    error::ArrowError,
};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Catalog, Error},
    units::Span,
};

/// A rule raises at most so many alerts at once; further rows are left out.
const MOST_FINDINGS: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Someone should look.
    #[default]
    Warning,
    /// Someone must look now.
    Critical,
}

impl Severity {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One rule: each row that its statement gives is an alert, told from the others by its text columns; no row, no alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name, of which there is only one.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// How often it is run.
    #[serde(default = "interval")]
    pub interval: Span,
    /// How long there must have been a row before the alert fires.
    #[serde(default = "hold")]
    pub hold: Span,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
}

fn interval() -> Span {
    Span(std::time::Duration::from_secs(30))
}

fn hold() -> Span {
    Span(std::time::Duration::ZERO)
}

/// What a rule's row says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The text columns.
    pub labels: BTreeMap<String, String>,
    /// The first number.
    pub value: Option<f64>,
}

/// Runs the rule's statement once.
///
/// # Errors
/// Those of the statement.
pub async fn test(rule: &Rule, catalog: &Catalog) -> Result<Vec<Finding>, Error> {
    let answer = catalog.query(&rule.sql).await?;
    let mut findings = Vec::new();
    for batch in &answer.batches {
        let read = read(batch).map_err(|error| Error::Engine(error.to_string()))?;
        findings.extend(read);
    }
    if findings.len() > MOST_FINDINGS {
        tracing::warn!(
            rule = rule.name,
            rows = findings.len(),
            "the rule gives too many rows; the first {MOST_FINDINGS} count"
        );
        findings.truncate(MOST_FINDINGS);
    }
    Ok(findings)
}

fn read(batch: &RecordBatch) -> Result<Vec<Finding>, ArrowError> {
    let mut findings = vec![Finding::default(); batch.num_rows()];
    let mut has_value = false;
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if is_text(field.data_type()) {
            let texts = cast(column, &DataType::Utf8)?;
            for (finding, text) in findings.iter_mut().zip(texts.as_string::<i32>()) {
                if let Some(text) = text {
                    finding.labels.insert(field.name().clone(), text.to_owned());
                }
            }
        } else if field.data_type().is_numeric() && !has_value {
            has_value = true;
            let numbers = cast(column, &DataType::Float64)?;
            for (finding, number) in findings.iter_mut().zip(numbers.as_primitive::<Float64Type>()) {
                finding.value = number.filter(|number| number.is_finite());
            }
        }
    }
    Ok(findings)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_defaults_and_refuse_unknown_keys() {
        let rule: Rule = serde_json::from_str(r#"{"name": "a", "sql": "SELECT 1"}"#).unwrap();
        assert_eq!((rule.interval, rule.hold, rule.severity), (interval(), hold(), Severity::Warning));
        assert!(serde_json::from_str::<Rule>(r#"{"name": "a", "sql": "SELECT 1", "for": "1m"}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"name": "a", "sql": "SELECT 1", "severity": "bad"}"#).is_err());
    }

    #[tokio::test]
    async fn text_columns_are_labels_and_the_first_number_is_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path(), crate::catalog::Options::default()).unwrap();
        let sql = "SELECT 'db' AS service, 7 AS calls, 9.5 AS other, CAST(NULL AS VARCHAR) AS host, now() AS time";
        let mut rule =
            Rule { name: "a".into(), sql: sql.into(), interval: interval(), hold: hold(), severity: Severity::Info };
        let found = test(&rule, &catalog).await.unwrap();
        let labels = BTreeMap::from([("service".to_owned(), "db".to_owned())]);
        assert_eq!(found, [Finding { labels, value: Some(7.0) }]);
        rule.sql = "SELECT service FROM hits".into();
        assert_eq!(test(&rule, &catalog).await.unwrap(), []);
        rule.sql = "SELECT nothing FROM hits".into();
        assert!(matches!(test(&rule, &catalog).await, Err(Error::Sql { .. })));
    }
}
