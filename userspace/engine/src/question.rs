//! What can be asked of the history, in a form that goes from the server to a worker, and why there may be no answer.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Catalog, Error},
    output::{self, Format},
    views::{self, Filter, Range, hits, processes},
};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// The rows of a statement.
    Sql(String),
    /// [`views::hitmap`]
    Hitmap {
        /// The range of time.
        range: Range,
        /// Length of a column, in ns; none leaves it to the length of the range.
        step_ns: Option<i64>,
        /// Whose hits.
        filter: Filter,
    },
    /// [`views::hits`]
    Hits(hits::Wanted),
    /// [`processes::at`]
    Processes {
        /// The moment, in ns since the epoch.
        at_ns: i64,
        /// Of one host alone.
        host: Option<String>,
    },
    /// [`processes::history`]
    Process {
        /// Which.
        process: processes::Identity,
        /// The range of time.
        range: Range,
        /// Length of a step, in ns; none leaves it to the length of the range.
        step_ns: Option<i64>,
    },
    /// [`views::cubes`]
    Cubes,
    /// [`views::alerts`]: the newest changes, at most so many.
    Alerts(usize),
}

/// How rows are written; what is no table is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// An array of objects.
    Json,
    /// An Arrow stream.
    Arrow,
}

/// Why there is no answer, by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The statement is wrong, whatever the rows are.
    Statement,
    /// It cannot be computed with these rows.
    Rows,
    /// It needs more memory than it may.
    Memory,
    /// The answer is larger than it may be.
    Large,
    /// It takes longer than it may.
    Time,
    /// Too much is asked at once.
    Busy,
    /// The history or the engine is broken.
    Broken,
}

impl Kind {
    /// As in counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Rows => "rows",
            Self::Memory => "memory",
            Self::Large => "large",
            Self::Time => "time",
            Self::Busy => "busy",
            Self::Broken => "broken",
        }
    }
}

/// There is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub kind: Kind,
    /// Why, for people.
    pub message: String,
    /// What to do about it, where it is known.
    pub hint: Option<String>,
}

impl Refusal {
    /// With its reason.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Sql { .. } | Error::ReadOnly(_) => Kind::Statement,
            Error::Rows(_) => Kind::Rows,
            Error::Memory(_) => Kind::Memory,
            Error::History(_) | Error::Vanished(_) | Error::Engine(_) => Kind::Broken,
        };
        Self { kind, message: error.to_string(), hint: error.hint() }
    }
}

/// Who answers statements: workers, or a catalog in this process.
pub trait Ask {
    /// The rows of a statement.
    fn rows(&self, sql: &str) -> impl Future<Output = Result<Vec<RecordBatch>, Refusal>> + Send;
}

impl Ask for Catalog {
    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, Refusal> {
        Ok(self.query(sql).await?.batches)
    }
}

/// Answers in this process; gives the answer piece by piece, so that it need not be held twice.
///
/// # Errors
/// Why there is no answer, and what `give` says.
pub async fn answer(
    catalog: &Catalog,
    question: &Question,
    form: Form,
    give: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
) -> Result<(), Refusal> {
    let given = |written: std::io::Result<()>| written.map_err(|error| Refusal::new(Kind::Broken, error.to_string()));
    let rows = match question {
        Question::Sql(sql) => catalog.query(sql).await?,
        Question::Hits(wanted) => hits::read(catalog, wanted).await?,
        Question::Alerts(limit) => views::alerts::read(catalog, *limit).await?,
        Question::Hitmap { range, step_ns, filter } => {
            return given(give(&json(&views::hitmap::read(catalog, *range, *step_ns, filter).await?)?));
        }
        Question::Processes { at_ns, host } => {
            return given(give(&json(&processes::at(catalog, *at_ns, host.as_deref()).await?)?));
        }
        Question::Process { process, range, step_ns } => {
            return given(give(&json(&processes::history(catalog, process, *range, *step_ns).await?)?));
        }
        Question::Cubes => return given(give(&json(&views::cubes::read(catalog)?)?)),
    };
    let broken = |error: &dyn std::error::Error| Refusal::new(Kind::Broken, error.to_string());
    match form {
        Form::Json => {
            for piece in output::json_pieces(rows.batches) {
                given(give(&piece.map_err(|error| broken(&error))?))?;
            }
        }
        Form::Arrow => {
            let mut writer =
                output::Writer::new(Format::Arrow, &rows.schema, Pieces(give)).map_err(|error| broken(&error))?;
            for batch in rows.batches {
                writer.write(batch).map_err(|error| broken(&error))?;
            }
            writer.finish().map_err(|error| broken(&error))?;
        }
    }
    Ok(())
}

fn json(view: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(view).map_err(|error| Refusal::new(Kind::Broken, error.to_string()))
}

struct Pieces<'a>(&'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send));

impl std::io::Write for Pieces<'_> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        (self.0)(piece)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
