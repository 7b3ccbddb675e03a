//! What the SQL of a rule finds.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
    error::ArrowError,
};
use hitscope_config::Rule;
use hitscope_engine::question::{Ask, Kind, Refusal};

/// What a rule's row says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The text columns.
    pub labels: BTreeMap<String, String>,
    /// The first number.
    pub value: Option<f64>,
    /// What else there is to say; rows say nothing else.
    pub detail: Option<String>,
}

/// Runs the rule's statement once. Each set of labels comes once, in their order, whatever the engine's order is.
///
/// # Errors
/// Those of the statement.
pub async fn test(rule: &Rule, history: &impl Ask) -> Result<Vec<Finding>, Refusal> {
    let mut findings = Vec::new();
    for batch in &history.rows(&rule.sql).await? {
        let read = read(batch).map_err(|error| Refusal::new(Kind::Broken, error.to_string()))?;
        findings.extend(read);
    }
    // Of equal labels the greatest value stays.
    let value = |finding: &Finding| finding.value.unwrap_or(f64::NEG_INFINITY);
    findings.sort_by(|a, b| a.labels.cmp(&b.labels).then(value(b).total_cmp(&value(a))));
    findings.dedup_by(|a, b| a.labels == b.labels);
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

    #[tokio::test]
    async fn text_columns_are_labels_and_the_first_number_is_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = hitscope_engine::catalog::Catalog::open(dir.path(), Default::default()).unwrap();
        let sql = "SELECT 'db' AS service, 7 AS calls, 9.5 AS other, CAST(NULL AS VARCHAR) AS host, now() AS time";
        let mut rule: Rule = serde_json::from_value(serde_json::json!({"name": "a", "sql": sql})).unwrap();
        let found = test(&rule, &catalog).await.unwrap();
        let labels = BTreeMap::from([("service".to_owned(), "db".to_owned())]);
        assert_eq!(found, [Finding { labels, value: Some(7.0), detail: None }]);
        rule.sql = "SELECT column1 AS service, column2 AS n FROM (VALUES ('b', 1), ('a', 2), ('b', 3))".into();
        let found = test(&rule, &catalog).await.unwrap();
        let services: Vec<&str> = found.iter().map(|finding| finding.labels["service"].as_str()).collect();
        assert_eq!(services, ["a", "b"]);
        rule.sql = "SELECT service FROM hits".into();
        assert_eq!(test(&rule, &catalog).await.unwrap(), []);
        rule.sql = "SELECT nothing FROM hits".into();
        assert_eq!(test(&rule, &catalog).await.unwrap_err().kind, Kind::Statement);
    }
}
