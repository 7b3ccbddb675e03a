use super::{Dialect, scan};

const POSTGRES: Dialect = Dialect::Postgres { backslashes: false };

fn shapes(text: &str, cut: bool) -> Vec<String> {
    shapes_of(text, cut, POSTGRES)
}

fn shapes_of(text: &str, cut: bool, dialect: Dialect) -> Vec<String> {
    let (mut shapes, mut position) = (Vec::new(), 0);
    while position < text.len() {
        let mut out = Vec::new();
        position = scan(text.as_bytes(), position, cut, dialect, &mut out).next;
        if !out.is_empty() {
            shapes.push(String::from_utf8_lossy(&out).into_owned());
        }
    }
    shapes
}

#[test]
fn literals_blanks_and_comments() {
    for (text, shape) in [
        (
            "UPDATE pgbench_accounts SET abalance = abalance + -123 WHERE aid = 456;",
            "UPDATE pgbench_accounts SET abalance = abalance + ? WHERE aid = ?",
        ),
        ("select 'a''b', E'c\\'d', $$e$$, $t$f$$g$t$, B'01', x'ff', N'n', U&'u'", "select ?, ?, ?, ?, ?, ?, ?, ?"),
        ("select 1,2.5 , .5, 1e-3,0x1f, 1_000, -1, +2 , - 3", "select ?, ?, ?, ?, ?, ?, ?, ?, ?"),
        ("select a-1, a - 1, (a)-1, $1-1, t1.c2", "select a-?, a - ?, (a)-?, $1-?, t1.c2"),
        ("  select\n\t1 -- one\n + /* two /* nested */ */ 2 ; ", "select ? + ?"),
        ("select \"A b\"\"c\" from \"T\" where \"x;y\" = 'p;q'", "select \"A b\"\"c\" from \"T\" where \"x;y\" = ?"),
        ("select * from t where id = $1 and x = $12::int", "select * from t where id = $1 and x = $12::int"),
        ("select count( * ) from t where a in( 1 )", "select count(*) from t where a in(?)"),
        ("alter role x password 'secret'", "alter role x password ?"),
        ("select größe from täble where ä = 'ö'", "select größe from täble where ä = ?"),
        ("select date '2020-01-01' - interval '1 day'", "select date ? - interval ?"),
        ("select data->>'k', a[1], b ? 'c'", "select data->>?, a[?], b ? ?"),
        ("copy t from stdin with (format csv)", "copy t from stdin with (format csv)"),
        ("select 'unterminated", "select ?"),
        ("select $x$ unterminated", "select ?"),
        ("select /* unterminated", "select"),
        ("select e", "select e"),
        ("$", "$"),
        (")))((( , ;", ")))(((, ;"),
    ] {
        assert_eq!(shapes(text, false), [shape], "{text}");
    }
}

#[test]
fn lists_and_rows_fold() {
    for (text, shape) in [
        ("select * from t where a in (1, 2,3) and b = 4", "select * from t where a in (?) and b = ?"),
        ("select * from t where a IN ($1,$2,$3)", "select * from t where a IN ($1)"),
        ("select * from t where a in ('a'::text, 'b'::text)", "select * from t where a in (?::text)"),
        ("select * from t where (a, b) in ((1,2),(3,4))", "select * from t where (a, b) in ((?, ?))"),
        ("select array[1,2,3]", "select array[?]"),
        ("select f(1, 2)", "select f(?, ?)"),
        ("insert into t (a,b) values (1,'x'),(2,'y') , (3, 'z')", "insert into t (a, b) values (?, ?)"),
        ("insert into t values (1,now()),(2,now()) returning id", "insert into t values (?, now()) returning id"),
        (
            "insert into t values ($1,$2),($3,$4) on conflict do nothing",
            "insert into t values ($1, $2) on conflict do nothing",
        ),
        ("insert into t values (1),(2,3)", "insert into t values (?), (?, ?)"),
        ("select * from (values (1),(2)) v, (select 1) w", "select * from (values (?)) v, (select ?) w"),
        ("values (1),(2) union select (1), (1)", "values (?) union select (?), (?)"),
    ] {
        assert_eq!(shapes(text, false), [shape], "{text}");
    }
}

#[test]
fn statements_split() {
    for (text, expected) in [
        ("select 1; select 2", &["select ?", "select ?"][..]),
        (";; select ';' ; -- only this\n;", &["select ?"]),
        ("", &[]),
        ("-- ping", &[]),
        ("begin; update t set a=1; end", &["begin", "update t set a=?", "end"]),
        (
            "create rule r as on insert to t do (select 1; select 2); select 3",
            &["create rule r as on insert to t do (select ?; select ?)", "select ?"],
        ),
        (
            "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3",
            &[
                "create or replace function f() returns int begin atomic select case when true then ? end; select ?; end",
                "select ?",
            ],
        ),
        (
            "create function f() returns int as $$ begin; end; $$ language plpgsql; select 1",
            &["create function f() returns int as ? language plpgsql", "select ?"],
        ),
    ] {
        assert_eq!(shapes(text, false), expected, "{text}");
    }
}

#[test]
fn mysql_has_rules_of_its_own() {
    for (text, expected) in [
        ("select `a``b`, \"it's\", 'it\\'s;', x'ff', _utf8'x'", &["select `a``b`, ?, ?, ?, _utf8?"][..]),
        ("select 1 # one; two\n from `t;u`", &["select ? from `t;u`"]),
        ("select 5--1, a -- b\n, c--", &["select ?-?, a, c"]),
        ("select /* /* one */ a, $b, c$d", &["select a, $b, c$d"]),
        ("select * from t where a in (?, ?, ?) and b = ? - 1", &["select * from t where a in (?) and b = ? - ?"]),
        ("insert into t values (?, ?), (?, ?)", &["insert into t values (?, ?)"]),
        ("/*!40101 SET NAMES utf8mb4 */", &["SET NAMES utf8mb4"]),
        (
            "create table t (a int) /*M!100100 engine=aria */; select 1",
            &["create table t (a int) engine=aria", "select ?"],
        ),
        ("select /*+ BKA(t) */ a /* unterminated", &["select a"]),
        ("set @a = \"x\\\"y\"; select @a, @@global.x", &["set @a = ?", "select @a, @@global.x"]),
        ("begin; select 1", &["begin", "select ?"]),
        (
            "begin not atomic select 1; if a then select 2; end if; end; select 3",
            &["begin not atomic select ?; if a then select ?; end if; end", "select ?"],
        ),
        (
            "create definer=`a`@`b` procedure p() begin while x do set y = 1; end while; case z when 1 then select 2; end case; end; call p()",
            &[
                "create definer=`a`@`b` procedure p() begin while x do set y = ?; end while; case z when ? then select ?; end case; end",
                "call p()",
            ],
        ),
        ("create table t (a int); drop table t", &["create table t (a int)", "drop table t"]),
    ] {
        assert_eq!(shapes_of(text, false, Dialect::Mysql), expected, "{text}");
    }
}

#[test]
fn cut_texts_share_a_shape() {
    let text = "insert into t (a, b) values (1, 'some text'), (2, 'more'), (3, null)";
    for end in "insert into t (a, b) values (1, 'some text')".len()..text.len() {
        let shape = shapes(&text[..end], true).concat();
        assert_eq!(shape, "insert into t (a, b) values (?, ?) …");
    }
    assert_eq!(shapes("insert into t (a, b) values (1, 'so", true), ["insert into t (a, b) values …"]);
    assert_eq!(shapes("select a from t where ab", true), ["select a from t where …"]);
    assert_eq!(shapes("select 1; select 2", true), ["select ?", "select ? …"]);
    assert_eq!(shapes("select 1; ", true), ["select ?"]);
}

#[test]
fn any_bytes_have_a_shape() {
    const ALPHABET: &[u8] = b"'\"$()[],;-+/*!M`#.e\\ \n1aE?in values(\xff\xc3";
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let text: Vec<u8> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ALPHABET[(state >> 33) as usize % ALPHABET.len()]
            })
            .collect();
        let mut position = 0;
        while position < text.len() {
            let mut out = Vec::new();
            let dialect = match state & 12 {
                0 => Dialect::Mysql,
                _ => Dialect::Postgres { backslashes: state & 2 == 0 },
            };
            let scanned = scan(&text, position, state & 1 == 0, dialect, &mut out);
            assert!(scanned.next > position && scanned.next <= text.len());
            assert!(scanned.range.end <= text.len() && scanned.range.start <= scanned.range.end);
            assert!(out.len() <= 3 * text.len() + 5);
            position = scanned.next;
        }
    }
}
