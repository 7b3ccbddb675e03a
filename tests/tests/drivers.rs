//! Drivers as applications use them: hitscope's counts are the servers' own.

use hitscope_tests::{
    Calls, Daemon, Mariadb, Postgres, Via, assert_calls, assert_calls_of, calls::normalise, calls_by_postgres,
    host::python, needs_probes, number, postgres::succeed,
};

const BOTH: &[&str] = &["server", "client"];

/// A pool of connections, with statements of many coroutines at once.
#[test]
fn asyncpg() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for via in [Via::Socket, Via::Tcp] {
        succeed(postgres.client(python(), via).args(["-c", include_str!("../clients/asyncpg_calls.py")]));
    }
    let calls = calls_by_postgres(&postgres);
    assert_eq!(calls.get(&normalise("select name from things where id = $1")), Some(&600), "{calls:?}");
    assert_calls(&mut daemon, &calls, BOTH);
    for side in BOTH {
        let failed = daemon.query(&format!(
            "SELECT error_code, sum(weight) AS hits FROM hits WHERE side = '{side}' AND protocol = 'postgres' \
             AND status = 'error' GROUP BY error_code ORDER BY error_code"
        ));
        let failed: Vec<_> = failed.iter().map(|row| (row["error_code"].as_str(), number(&row["hits"]))).collect();
        assert_eq!(failed, [(Some("22012"), 2), (Some("23505"), 2), (Some("42P01"), 2)], "{side}");
    }
}

/// MySQLdb, over MariaDB's own library in C.
#[test]
fn mysqlclient() {
    needs_probes!();
    let mariadb = Mariadb::start();
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    for via in ["socket", "tcp"] {
        succeed(mariadb.python(include_str!("../clients/mysqlclient_calls.py")).arg(via));
    }
    let mut calls: Calls = mariadb.calls();
    // Each of a query's statements is a hit; the log has the query.
    let several = ["select 1, 'one'", "update things set name = 'x' where id < 5", "select 7"];
    assert_eq!(calls.remove(&normalise(&several.join("; "))), Some(2), "{calls:?}");
    calls.extend(several.map(|statement| (normalise(statement), 2)));
    // An insert is one operation, however many rows it brings: there are those of one row, which fail, and of a hundred.
    let insert = normalise("insert into things values (1, 'again')");
    calls.retain(|statement, _| *statement == insert || !statement.starts_with(&insert));
    *calls.get_mut(&insert).expect("one that fails") += 2;
    assert_eq!(calls.get(&normalise("select name from things where id = 1")), Some(&200), "{calls:?}");
    assert_calls_of(&mut daemon, "mysql", &calls, BOTH);
}
