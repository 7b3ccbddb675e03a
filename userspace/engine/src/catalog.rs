//! One SQL catalog over the history folder: a table for each stored table, made of the closed cubes (Parquet) and the
//! open ones (Arrow IPC). It reads, and nothing else: no statement changes data, settings or files.

mod open;
mod prune;
mod table;
#[cfg(test)]
mod tests;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    dataframe::DataFrame,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream,
        context::SQLOptions,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation, TrackConsumersPool},
        runtime_env::RuntimeEnvBuilder,
    },
    object_store,
    prelude::{SessionConfig, SessionContext},
};
use futures::{Stream, StreamExt};
use hitscope_schemas::tables::{self, Table};

/// Of the parsed Parquet footers, this much is kept for the next query.
const FOOTER_CACHE_BYTES: usize = 16 << 20;

/// Limits of a catalog.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all running queries, their results included, may hold together, in bytes, as far as the engine counts it.
    pub memory_bytes: usize,
    /// Whether what does not fit into that may go to temporary files.
    pub spill: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_bytes: 96 << 20, spill: false }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement cannot be understood or names what does not exist.
    #[error("{message}")]
    Sql {
        /// What is wrong.
        message: String,
        /// What to do, where it is known.
        hint: Option<String>,
    },
    /// The statement would change something.
    #[error("{0}: the catalog is read-only")]
    ReadOnly(String),
    /// The statement makes sense, but not with these rows: a division by zero, a text that is no number.
    #[error("{0}")]
    Rows(String),
    /// It needed too much memory.
    #[error("the query needs more memory than the limit of {} MiB", .0 >> 20)]
    Memory(usize),
    /// The history folder cannot be read.
    #[error("the history folder cannot be read: {0}")]
    History(#[from] hitscope_history::Error),
    /// A cube went away while it was read, twice.
    #[error("a file of the history was removed while it was read: {0}")]
    Vanished(String),
    /// The engine failed.
    #[error("the query failed: {0}")]
    Engine(String),
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sql { hint, .. } => hint.clone(),
            Self::ReadOnly(_) => Some("use SELECT, WITH, EXPLAIN, SHOW or DESCRIBE".into()),
            Self::Memory(_) => {
                Some("ask for fewer rows or columns, aggregate, add a LIMIT, or raise server.query_memory".into())
            }
            Self::Rows(_) | Self::History(_) | Self::Vanished(_) | Self::Engine(_) => None,
        }
    }
}

/// The catalog.
pub struct Catalog {
    data_dir: PathBuf,
    tables: Vec<Table>,
    context: SessionContext,
    pool: Arc<dyn MemoryPool>,
    memory_bytes: usize,
}

impl Catalog {
    /// A catalog over the data folder, which may still be empty or not exist yet.
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, Error> {
        let engine = |error: DataFusionError| Error::Engine(error.strip_backtrace());
        let data_dir = data_dir
            .canonicalize()
            .or_else(|_| std::path::absolute(data_dir))
            .map_err(|error| Error::Engine(error.to_string()))?;
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).clamp(1, 4);
        let mut config = SessionConfig::new()
            .with_target_partitions(threads)
            .with_information_schema(true)
            .with_default_catalog_and_schema("hitscope", "history")
            .with_collect_statistics(false);
        let settings = config.options_mut();
        settings.execution.time_zone = Some("UTC".into());
        settings.execution.parquet.pushdown_filters = true;

        const TOP_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();
        let pool: Arc<dyn MemoryPool> =
            Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(options.memory_bytes), TOP_CONSUMERS));
        let spill = if options.spill { DiskManagerMode::OsTmpDirectory } else { DiskManagerMode::Disabled };
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(pool.clone())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
            .build_arc()
            .map_err(engine)?;
        let context = SessionContext::new_with_config_rt(config, environment);

        let open = Arc::new(open::OpenCubes::default());
        let tables = tables::all();
        for table in &tables {
            let provider = table::History::new(table.clone(), &data_dir, open.clone());
            context.register_table(table.name, Arc::new(provider)).map_err(engine)?;
        }
        Ok(Self { data_dir, tables, context, pool, memory_bytes: options.memory_bytes })
    }

    /// The folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The stored tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Runs one statement and gives its rows as they come.
    pub async fn stream(&self, sql: &str) -> Result<Rows, Error> {
        self.run(self.plan(sql).await?).await
    }

    /// Runs one statement and gives all its rows; they count against the memory limit until the answer is dropped.
    pub async fn query(&self, sql: &str) -> Result<Answer, Error> {
        self.collect(self.plan(sql).await?).await
    }

    /// A table to build a query on without SQL text.
    pub async fn table(&self, name: &str) -> Result<DataFrame, Error> {
        self.context.table(name).await.map_err(|error| self.classify(&error))
    }

    /// Runs a query built on [`Self::table`].
    pub async fn collect(&self, frame: DataFrame) -> Result<Answer, Error> {
        match self.run(frame.clone()).await?.collect(&self.pool).await {
            // A cube was closed or evicted after the files were listed: list again, once.
            Err(Error::Vanished(_)) => self.run(frame).await?.collect(&self.pool).await,
            other => other,
        }
    }

    async fn plan(&self, sql: &str) -> Result<DataFrame, Error> {
        let plan = self.context.state().create_logical_plan(sql).await.map_err(|error| self.classify(&error))?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|error| Error::ReadOnly(error.message().into_owned()))?;
        self.context.execute_logical_plan(plan).await.map_err(|error| self.classify(&error))
    }

    async fn run(&self, frame: DataFrame) -> Result<Rows, Error> {
        let limits = Limits { memory_bytes: self.memory_bytes, tables: self.tables.iter().map(|t| t.name).collect() };
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.execute_stream().await.map_err(|error| limits.classify(&error))?;
        Ok(Rows { schema, batches, limits })
    }

    fn classify(&self, error: &DataFusionError) -> Error {
        let tables = self.tables.iter().map(|table| table.name).collect();
        Limits { memory_bytes: self.memory_bytes, tables }.classify(error)
    }
}

/// What an error message needs to know.
struct Limits {
    memory_bytes: usize,
    tables: Vec<&'static str>,
}

impl Limits {
    fn classify(&self, error: &DataFusionError) -> Error {
        if let Some(path) = vanished(error) {
            return Error::Vanished(path);
        }
        let message = || error.find_root().message().into_owned();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Error::Memory(self.memory_bytes),
            DataFusionError::Plan(text) if text.contains("table '") && text.contains("not found") => Error::Sql {
                message: text.replace("hitscope.history.", ""),
                hint: Some(format!("the tables are {}", self.tables.join(", "))),
            },
            DataFusionError::SchemaError(..) => {
                Error::Sql { message: message(), hint: Some("`DESCRIBE <table>` lists a table's columns".into()) }
            }
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_) => Error::Sql { message: message(), hint: None },
            DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => Error::Rows(message()),
            _ => Error::Engine(message()),
        }
    }
}

/// The path, when the root of the error is a file that is not there any more.
fn vanished(error: &DataFusionError) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(hitscope_history::Error::Gone { path }) = error.downcast_ref() {
            return Some(path.display().to_string());
        }
        if let Some(object_store::Error::NotFound { path, .. }) = error.downcast_ref() {
            return Some(path.clone());
        }
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

/// The rows of a running query. Dropping it ends the query, as soon as what computes gives way.
pub struct Rows {
    schema: SchemaRef,
    batches: SendableRecordBatchStream,
    limits: Limits,
}

impl Rows {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn collect(mut self, pool: &Arc<dyn MemoryPool>) -> Result<Answer, Error> {
        let reservation = MemoryConsumer::new("result").register(pool);
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            let batch = batch?;
            let bytes: usize =
                batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
            reservation.try_grow(bytes).map_err(|_| Error::Memory(self.limits.memory_bytes))?;
            batches.push(batch);
        }
        Ok(Answer { schema: self.schema, batches, _held: reservation })
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = task::ready!(self.batches.as_mut().poll_next(context));
        Poll::Ready(batch.map(|batch| batch.map_err(|error| self.limits.classify(&error))))
    }
}

/// All rows of a query.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// What the rows hold of the memory limit.
    _held: MemoryReservation,
}

impl Answer {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
