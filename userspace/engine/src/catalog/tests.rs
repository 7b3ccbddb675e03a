use std::path::Path;

use arrow::util::display::array_value_to_string;
use hitscope_schemas::tables::{self, Row};

use super::*;
use crate::testing::{CUBE, CUBE_LENGTH, S, cell, close, hit, leave_open, process, writer};

fn catalog(data_dir: &Path) -> Catalog {
    Catalog::open(data_dir, Options::default()).unwrap()
}

/// Rows as text, in their order.
async fn ask(catalog: &Catalog, sql: &str) -> Vec<Vec<String>> {
    let answer = catalog.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let row = |batch: &RecordBatch, row| {
        batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect()
    };
    answer.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|index| row(batch, index))).collect()
}

async fn refused(catalog: &Catalog, sql: &str) -> Error {
    match catalog.query(sql).await {
        Err(error) => error,
        Ok(answer) => panic!("{sql}: {} rows", answer.rows()),
    }
}

#[tokio::test]
async fn a_folder_without_files_has_every_table_empty() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("not/there/yet"));
    for table in tables::all() {
        assert_eq!(ask(&catalog, &format!("SELECT count(*) FROM {}", table.name)).await, [["0"]]);
    }
    let columns = ask(&catalog, "SELECT column_name FROM information_schema.columns WHERE table_name = 'hits'").await;
    assert_eq!(columns.len(), tables::Hit::table().columns.len() + 2);
    assert!(columns.contains(&vec!["host".to_owned()]) && columns.contains(&vec!["date".to_owned()]));
    assert!(ask(&catalog, "DESCRIBE processes").await.len() > 20);
    assert_eq!(
        ask(&catalog, "SHOW TABLES").await.iter().filter(|row| row[1] == "history").count(),
        tables::all().len()
    );
}

#[tokio::test]
async fn closed_and_open_cubes_are_one_table() {
    let dir = tempfile::tempdir().unwrap();
    close(dir.path(), "db1", (0..600).map(|index| hit(CUBE + index * S, "a", 10)).collect());
    close(dir.path(), "db2", vec![hit(CUBE, "b", 30)]);
    let mut writer = leave_open(dir.path(), "db1", vec![hit(CUBE + 2 * CUBE_LENGTH, "a", 50)]);
    let catalog = catalog(dir.path());
    let sums = "SELECT host, count(*), sum(duration_ns), min(date) FROM hits GROUP BY host ORDER BY host";
    assert_eq!(ask(&catalog, sums).await, [["db1", "601", "6050", "2023-11-14"], ["db2", "1", "30", "2023-11-14"]]);

    // What comes since is seen at once; nothing twice.
    for added in 1..=3 {
        writer.append(vec![hit(CUBE + 2 * CUBE_LENGTH + added * S, "new", 1)]);
        writer.flush(CUBE.unsigned_abs()).unwrap();
        let count = "SELECT count(*) FROM hits WHERE service = 'new' AND host = 'db1'";
        assert_eq!(ask(&catalog, count).await, [[added.to_string()]]);
    }
    // And the close changes where the rows lie, not what they say.
    writer.finish().unwrap();
    assert_eq!(ask(&catalog, sums).await[0], ["db1", "604", "6053", "2023-11-14"]);
    let newest = ask(
        &catalog,
        "SELECT service, encrypted, rows, cpu_ns, disk_ns, operation_id FROM hits ORDER BY end_time DESC LIMIT 1",
    )
    .await;
    assert_eq!(newest, [["new", "false", "1", "5", "", "18446744073709551614"]]);
    let by_id = "SELECT count(*) FROM hits WHERE operation_id = 18446744073709551614";
    assert_eq!(ask(&catalog, by_id).await, [["605"]]);
}

#[tokio::test]
async fn only_files_that_can_match_are_planned() {
    let dir = tempfile::tempdir().unwrap();
    for host in ["db1", "db2"] {
        close(dir.path(), host, (0..4).map(|cube| hit(CUBE + cube * CUBE_LENGTH, "a", 10)).collect());
    }
    let _open = leave_open(dir.path(), "db1", vec![hit(CUBE + 4 * CUBE_LENGTH, "a", 10)]);
    let catalog = catalog(dir.path());
    let files = async |condition: &str| {
        let plan = ask(&catalog, &format!("EXPLAIN SELECT duration_ns FROM hits WHERE {condition}")).await;
        let plan = plan.iter().find(|row| row[0] == "physical_plan").unwrap()[1].clone();
        (plan.matches(".parquet").count(), plan.contains("partition_sizes"))
    };
    assert_eq!(files("duration_ns > 5").await, (8, true));
    assert_eq!(files("end_time >= '2023-11-14T22:20:00Z' AND end_time < '2023-11-14T22:25:00Z'").await, (2, false));
    assert_eq!(
        files("end_time BETWEEN '2023-11-14T22:24:59Z' AND '2023-11-14T22:25:00Z' AND host = 'db1'").await,
        (2, false)
    );
    assert_eq!(files("host = 'db2'").await, (4, false));
    assert_eq!(files("host IN ('db2', 'none')").await, (4, false));
    assert_eq!(files("date = '2023-11-14' AND end_time = '2023-11-14T22:35:00Z'").await, (0, true));
    assert_eq!(files("date < '2023-11-14'").await, (0, false));
    assert_eq!(files("end_time > now() - INTERVAL '1 hour'").await, (0, false));
    let counted =
        "SELECT count(*) FROM hits WHERE end_time >= '2023-11-14T22:20:00Z' AND end_time < '2023-11-14T22:25:00Z'";
    assert_eq!(ask(&catalog, counted).await, [["2"]]);
}

#[tokio::test]
async fn partial_rows_of_an_open_cube_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = leave_open(dir.path(), "db1", vec![cell(CUBE, "a", 2000, 3)]);
    writer.append(vec![cell(CUBE, "a", 2000, 4)]);
    writer.flush(CUBE.unsigned_abs()).unwrap();
    let catalog = catalog(dir.path());
    let sum = "SELECT sum(hits), sum(errors) FROM hitmap GROUP BY window_start, bucket_low_ns";
    assert_eq!(ask(&catalog, sum).await, [["7", "3"]]);
    writer.finish().unwrap();
    assert_eq!(ask(&catalog, sum).await, [["7", "3"]]);
}

#[tokio::test]
async fn nothing_but_reading_is_done() {
    let dir = tempfile::tempdir().unwrap();
    close(dir.path(), "db1", vec![hit(CUBE, "a", 10)]);
    let secret = dir.path().join("secret.csv");
    std::fs::write(&secret, "a,b\n1,2\n").unwrap();
    let target = dir.path().join("out.csv");
    let (secret, out) = (secret.display(), target.display());
    let catalog = catalog(dir.path());
    for sql in [
        format!("COPY (SELECT 1) TO '{out}'"),
        format!("COPY hits TO '{out}' STORED AS CSV"),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE x AS SELECT 1".into(),
        "CREATE VIEW hits2 AS SELECT 1".into(),
        "DROP TABLE hits".into(),
        "INSERT INTO hits SELECT * FROM hits".into(),
        "DELETE FROM hits".into(),
        "UPDATE hits SET weight = 2".into(),
        "SET datafusion.catalog.information_schema = false".into(),
        "PREPARE p AS SELECT 1".into(),
        "EXPLAIN ANALYZE INSERT INTO hits SELECT * FROM hits".into(),
        "BEGIN TRANSACTION".into(),
    ] {
        let error = refused(&catalog, &sql).await;
        assert!(matches!(error, Error::Sql { .. } | Error::ReadOnly(_)), "{sql}: {error:?}");
    }
    for sql in [
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"file://{secret}\""),
        format!("SELECT * FROM read_csv('{secret}')"),
    ] {
        assert!(matches!(refused(&catalog, &sql).await, Error::Sql { .. }), "{sql}");
    }
    assert!(matches!(refused(&catalog, "SELECT 1; SELECT 2").await, Error::Sql { .. }));
    assert!(!target.exists());
    assert_eq!(ask(&catalog, "WITH x AS (SELECT sum(weight) AS w FROM hits) SELECT w FROM x").await, [["1"]]);
}

#[tokio::test]
async fn mistakes_are_told_with_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path());
    let table = refused(&catalog, "SELECT * FROM hit").await;
    assert!(table.to_string().contains("'hit'") && table.hint().unwrap().contains("hitmap"), "{table:?}");
    let column = refused(&catalog, "SELECT duration FROM hits").await;
    assert!(column.to_string().contains("duration_ns") && column.hint().is_some(), "{column:?}");
    let syntax = refused(&catalog, "SELEC 1").await;
    assert!(matches!(syntax, Error::Sql { .. }), "{syntax:?}");
    let rows = refused(&catalog, "SELECT 1 / (value - 1) FROM generate_series(1, 3)").await;
    assert!(matches!(rows, Error::Rows(_)), "{rows:?}");
}

#[tokio::test]
async fn a_query_ends_at_its_limit_of_memory() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Options { memory_bytes: 1 << 20, ..Options::default() };
    let catalog = Catalog::open(dir.path(), limits).unwrap();
    for sql in [
        "SELECT value FROM generate_series(1, 1000000)",
        "SELECT value FROM generate_series(1, 1000000) ORDER BY value DESC",
    ] {
        let error = refused(&catalog, sql).await;
        assert!(matches!(error, Error::Memory(_)), "{sql}: {error:?}");
    }
    assert_eq!(ask(&catalog, "SELECT count(*) FROM generate_series(1, 1000000)").await, [["1000000"]]);
}

#[tokio::test]
async fn rows_come_as_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    close(dir.path(), "db1", (0..50).map(|index| process(CUBE + index * 5 * S, 1, 1, false)).collect());
    let catalog = catalog(dir.path());
    let mut rows = catalog.stream("SELECT time FROM processes").await.unwrap();
    assert_eq!(rows.schema().fields().len(), 1);
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.unwrap().num_rows();
    }
    assert_eq!(count, 50);
}

#[tokio::test]
async fn cubes_may_close_and_go_while_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path());
    let path = dir.path().to_owned();
    let writing = std::thread::spawn(move || {
        for round in 0..20 {
            let mut writer = writer(&path, "db1");
            writer.append(vec![hit(CUBE + round * CUBE_LENGTH, "a", 10)]);
            writer.flush(CUBE.unsigned_abs()).unwrap();
            writer.finish().unwrap();
        }
    });
    let mut last = 0;
    while !writing.is_finished() {
        let count: u64 = ask(&catalog, "SELECT count(*) FROM hits").await[0][0].parse().unwrap();
        assert!(count >= last, "{count} after {last}");
        last = count;
    }
    writing.join().unwrap();
    assert_eq!(ask(&catalog, "SELECT count(*) FROM hits").await, [["20"]]);
}

#[tokio::test]
async fn a_torn_or_damaged_open_cube_gives_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = leave_open(dir.path(), "db1", vec![hit(CUBE, "a", 10)]);
    writer.append(vec![hit(CUBE, "a", 10)]);
    writer.flush(CUBE.unsigned_abs()).unwrap();
    drop(writer);
    let file = &hitscope_history::list(dir.path(), "hits", 0..u64::MAX).unwrap()[0];
    let bytes = std::fs::read(&file.path).unwrap();
    std::fs::write(&file.path, &bytes[..bytes.len() - 7]).unwrap();
    assert_eq!(ask(&catalog(dir.path()), "SELECT count(*) FROM hits").await, [["1"]]);
}
