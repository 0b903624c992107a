//! SQL over the long form of runs: a private database of exactly the tables that a query reads, thrown away after it.
//!
//! The store itself is not asked: its rows are JSON, and figures with their intervals are computed. The query may do
//! nothing but read: `ATTACH`, `PRAGMA` and everything that writes is refused before it runs.

use super::long::{Table, Value};
use super::record::RunRecord;
use super::store::RunHeader;
use super::summary::Summary;
use crate::causes::Problem;
use crate::units::format_seconds;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};
use std::time::{Duration, Instant};
use strum::VariantArray as _;

/// Longest text that a query may make, bytes.
const LONGEST_VALUE: i32 = 64 << 20;

/// How many steps of SQLite's machine pass between two looks at the clock.
const STEPS: i32 = 10_000;

/// A query with the tables that it reads.
#[derive(Debug)]
pub struct Query {
    connection: Connection,
    sql: String,
    tables: Vec<Table>,
}

impl Query {
    /// Checks a query before anything is read for it.
    ///
    /// # Errors
    /// It is no SQL, names something that is not there, or would do more than read.
    pub fn new(sql: &str) -> Result<Self, Problem> {
        // A file without a name: SQLite keeps it in memory while it is small, and deletes it.
        let connection = Connection::open("").map_err(of_sqlite)?;
        let length = connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE);
        length.and_then(|_| connection.execute_batch(&schema())).map_err(of_sqlite)?;
        connection.authorizer(Some(may_only_read)).map_err(of_sqlite)?;
        let statement = connection.prepare(sql).map_err(of_sqlite)?;
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(Problem::new("the query has no result: write SELECT …"));
        }
        drop(statement);
        let tables = tables_read(&connection, sql).map_err(of_sqlite)?;
        connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(of_sqlite)?;
        Ok(Self { connection, sql: sql.to_owned(), tables })
    }

    /// Whether what was measured is asked for, and not only which runs there are.
    pub fn needs_records(&self) -> bool {
        self.tables.iter().any(|table| table.needs_records())
    }

    /// Adds a run: its record is given where records are needed.
    ///
    /// # Errors
    /// The disk for temporary files is full.
    pub fn add(&self, header: &RunHeader, record: Option<&RunRecord>) -> Result<(), Problem> {
        let record = record.map(|run| (run, Summary::of(run)));
        self.connection.execute_batch("BEGIN").map_err(of_sqlite)?;
        for table in &self.tables {
            let places = vec!["?"; table.columns().len()].join(", ");
            let insert = format!("INSERT INTO {table} VALUES ({places})");
            let mut insert = self.connection.prepare_cached(&insert).map_err(of_sqlite)?;
            let mut outcome = Ok(());
            let mut add = |row: Vec<Value>| {
                if outcome.is_ok() {
                    outcome = insert.execute(params_from_iter(row)).map(|_| ());
                }
            };
            table.rows_of_header(header).into_iter().for_each(&mut add);
            if let Some((run, summary)) = &record {
                table.rows(run, summary, &mut add);
            }
            outcome.map_err(of_sqlite)?;
        }
        self.connection.execute_batch("COMMIT").map_err(of_sqlite)
    }

    /// Runs the query: `titles` gets the names of its columns, then `take` every row until it says that it has enough.
    ///
    /// # Errors
    /// SQLite meets an error, or it takes longer than `limit`.
    pub fn run(
        &self,
        limit: Duration,
        titles: impl FnOnce(Vec<String>),
        mut take: impl FnMut(Vec<Value>) -> bool,
    ) -> Result<(), Problem> {
        let begun = Instant::now();
        let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Problem::new(format!(
                "the query was stopped after {}; --timeout gives it longer",
                format_seconds(limit.as_secs_f64())
            )),
            _ => of_sqlite(source),
        };
        self.connection.authorizer(Some(may_only_read)).map_err(of_sqlite)?;
        let is_late = move || begun.elapsed() >= limit;
        self.connection.progress_handler(STEPS, Some(is_late)).map_err(of_sqlite)?;
        let mut statement = self.connection.prepare(&self.sql).map_err(failed)?;
        titles(statement.column_names().into_iter().map(str::to_owned).collect());
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let value = |column| row.get_ref(column).map(value);
            if !take((0..columns).map(value).collect::<Result<_, _>>().map_err(failed)?) {
                break;
            }
        }
        Ok(())
    }
}

/// The tables as SQL makes them.
fn schema() -> String {
    let table = |table: &Table| {
        let columns = table.columns().into_iter().map(|column| format!("\"{}\"", column.name));
        format!("CREATE TABLE {table} ({});\n", columns.collect::<Vec<_>>().join(", "))
    };
    Table::VARIANTS.iter().map(table).collect()
}

/// The tables that the program of a query opens.
fn tables_read(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<Table>> {
    let mut roots = connection.prepare("SELECT rootpage FROM sqlite_schema WHERE name = ?1")?;
    let mut opened: Vec<i64> = Vec::new();
    // What explains itself reads nothing.
    if let Ok(mut program) = connection.prepare(&format!("EXPLAIN {sql}")) {
        let mut steps = program.query([])?;
        while let Some(step) = steps.next()? {
            if step.get_ref("opcode")?.as_str() == Ok("OpenRead") {
                opened.push(step.get("p2")?);
            }
        }
    }
    let mut read = Vec::new();
    for table in Table::VARIANTS {
        let root = roots.query_row([table.to_string()], |row| row.get(0))?;
        if opened.contains(&root) {
            read.push(*table);
        }
    }
    Ok(read)
}

fn may_only_read(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Function { function_name }
            if function_name.eq_ignore_ascii_case("load_extension") =>
        {
            Authorization::Deny
        }
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Integer(number) => (*number).into(),
            Self::Real(number) => (*number).into(),
            Self::Bool(is) => (*is).into(),
            // As text, which SQLite's functions of dates read.
            Self::Time(_) => self.to_string().into(),
        })
    }
}

/// What SQLite says of a query, which names what it is about.
fn of_sqlite(source: rusqlite::Error) -> Problem {
    match source {
        rusqlite::Error::MultipleStatement => {
            Problem::new("these are several statements, and a query is one: SELECT …")
        }
        source
            if source.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied) =>
        {
            Problem::new("the query would do more than read: SELECT is all that is allowed")
        }
        source => {
            let help =
                "the query cannot be run ('quantbench query' without one shows tables and columns)";
            Problem::because(help, source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::in_words;
    use crate::results::made_up::{LADDER, MadeUp, started};
    use crate::results::store::Store;
    use std::collections::BTreeSet;

    fn asked(sql: &str) -> Result<(Vec<String>, Vec<Vec<Value>>), Problem> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(&folder.path().join("runs.sqlite")).unwrap();
        let run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        store.begin_run(&run).unwrap();
        store.annotate(&run.id, |kept| kept.tags.extend(["b".to_owned(), "a".to_owned()])).unwrap();
        let query = Query::new(sql)?;
        let run = store.load("last").unwrap();
        query.add(&store.list().unwrap()[0], query.needs_records().then_some(&run))?;
        let (mut titles, mut rows) = (Vec::new(), Vec::new());
        query.run(
            Duration::from_secs(5),
            |names| titles = names,
            |row| {
                rows.push(row);
                true
            },
        )?;
        Ok((titles, rows))
    }

    fn refused(sql: &str) -> String {
        in_words(&asked(sql).unwrap_err())
    }

    #[test]
    fn every_table_has_its_columns_and_rows() {
        for table in Table::VARIANTS {
            let (titles, rows) = asked(&format!("SELECT * FROM {table}")).unwrap();
            let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
            assert_eq!(titles, names);
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{table}");
            assert!(!rows.is_empty(), "{table}");
            for row in &rows {
                for (cell, column) in row.iter().zip(table.columns()) {
                    use crate::results::long::Kind;
                    let is_such = match cell {
                        Value::Null => true,
                        Value::Text(_) => matches!(column.kind, Kind::Text | Kind::Time),
                        Value::Integer(_) => matches!(column.kind, Kind::Integer | Kind::Bool),
                        Value::Real(_) => column.kind == Kind::Real,
                        Value::Bool(_) | Value::Time(_) => false,
                    };
                    assert!(is_such, "{table}.{}: {cell:?}", column.name);
                }
            }
        }
    }

    #[test]
    fn figures_are_those_of_the_summary() {
        let run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        let summary = Summary::of(&run);
        let sql = "SELECT metric, value, low, n FROM figures WHERE variant = 'Q8_0' AND metric = 'kld_nats'";
        let (_, rows) = asked(sql).unwrap();
        let figure = &summary.rows[1].figures[&crate::results::metric::Metric::Kld].estimate;
        let n = Value::Integer(i64::try_from(figure.n).unwrap());
        let low = figure.interval.unwrap().low;
        assert_eq!(
            rows,
            [[Value::Text("kld_nats".to_owned()), Value::Real(figure.value), Value::Real(low), n]]
        );
        let (_, counted) = asked("SELECT count(*) FROM figures").unwrap();
        let all: usize = summary.rows.iter().map(|row| row.figures.len()).sum();
        assert_eq!(counted, [[Value::Integer(i64::try_from(all).unwrap())]]);
    }

    #[test]
    fn raw_values_are_those_of_the_record() {
        let sql =
            "SELECT count(*), sum(metric = 'ttft_seconds'), min(round), max(round) FROM samples
                   WHERE variant = 'F16' AND metric IN ('ttft_seconds', 'tg128_tokens_per_second')";
        let (_, rows) = asked(sql).unwrap();
        let run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        let visits = || run.trials[0].visits.iter();
        let answers = visits().flat_map(|visit| &visit.responses).count();
        let repetitions = visits()
            .flat_map(|visit| &visit.speed)
            .filter(|record| record.test.to_string() == "tg128")
            .flat_map(|record| &record.samples)
            .count();
        let whole = |number: usize| Value::Integer(i64::try_from(number).unwrap());
        assert!(answers > 0 && repetitions > 0);
        assert_eq!(rows, [[whole(answers + repetitions), whole(answers), whole(0), whole(4)]]);
    }

    #[test]
    fn tables_can_be_joined_and_dates_are_read() {
        let sql = "SELECT tag, date(started), count(*) FROM runs JOIN tags USING (run) JOIN trials USING (run, started)
                   GROUP BY tag ORDER BY tag";
        let (titles, rows) = asked(sql).unwrap();
        assert_eq!(titles, ["tag", "date(started)", "count(*)"]);
        let day = started().date().to_string();
        let row = |tag: &str| {
            vec![Value::Text(tag.to_owned()), Value::Text(day.clone()), Value::Integer(3)]
        };
        assert_eq!(rows, [row("a"), row("b")]);
        let cte = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n";
        assert_eq!(asked(cte).unwrap().1, [[Value::Integer(6)]]);
    }

    #[test]
    fn nothing_but_reading_is_allowed() {
        for sql in [
            "DELETE FROM runs",
            "CREATE TABLE x (y)",
            "ATTACH '/tmp/x.sqlite' AS x",
            "PRAGMA query_only = 0",
            "PRAGMA table_info(runs)",
            "INSERT INTO runs (run) VALUES (1) RETURNING run",
            "WITH x AS (SELECT 1) DELETE FROM runs",
            "DROP TABLE runs",
        ] {
            assert!(refused(sql).contains("more than read"), "{sql}: {}", refused(sql));
        }
        for function in ["load_extension", "LOAD_Extension"] {
            let told = refused(&format!("SELECT {function}('x')"));
            assert!(told.contains("more than read") || told.contains("not authorized"), "{told}");
        }
        assert!(refused("SELECT 1; SELECT 2").contains("several statements"));
        for sql in ["", "-- nothing", "VACUUM INTO '/tmp/x.sqlite'", "REINDEX"] {
            assert!(refused(sql).contains("SELECT"), "{sql}: {}", refused(sql));
        }
        assert!(refused("SELEC 1").contains("syntax error"));
        assert!(refused("SELECT speed FROM figures").contains("no such column: speed"));
        assert!(refused("SELECT * FROM visits").contains("no such table: visits"));
        assert!(refused("SELECT zeroblob(1000000000)").contains("too big"));
        assert!(!refused("SELECT ?1 \0").is_empty());
    }

    #[test]
    fn a_query_that_never_ends_is_stopped() {
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let query = Query::new(endless).unwrap();
        let error = query.run(Duration::from_millis(50), |_| {}, |_| true).unwrap_err();
        assert!(in_words(&error).contains("stopped after 50"), "{}", in_words(&error));
    }

    #[test]
    fn what_a_query_does_not_read_is_not_computed() {
        assert!(!Query::new("SELECT count(*) FROM runs").unwrap().needs_records());
        assert!(!Query::new("SELECT run FROM tags WHERE tag = 'figures'").unwrap().needs_records());
        assert!(
            Query::new("SELECT 1 FROM runs WHERE EXISTS (SELECT 1 FROM figures)")
                .unwrap()
                .needs_records()
        );
    }
}
