//! One stored table as the SQL engine sees it.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    config::TableParquetOptions,
    datasource::{
        TableType,
        listing::PartitionedFile,
        memory::MemorySourceConfig,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource, parquet::CachedParquetFileReaderFactory},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown},
    object_store::{ObjectMeta, path::Path as StorePath},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
    scalar::ScalarValue,
};
use hitscope_history::HistoryFile;
use hitscope_schemas::tables::Table;

use super::{
    open::OpenCubes,
    prune::{self, day},
};

/// How often the files are listed anew when one went away before it was read.
const ATTEMPTS: usize = 3;

/// A stored table: its files' columns, then `host` and `date` from the folders' names.
#[derive(Debug)]
pub struct History {
    table: Table,
    data_dir: Arc<Path>,
    open: Arc<OpenCubes>,
    columns: TableSchema,
}

impl History {
    /// The table, over the folder.
    pub fn new(table: Table, data_dir: &Path, open: Arc<OpenCubes>) -> Self {
        let columns = TableSchema::builder(Arc::new(Schema::new(table.schema().fields().clone())))
            .with_table_partition_cols(folder_columns())
            .build();
        Self { table, data_dir: data_dir.into(), open, columns }
    }

    async fn list(&self, filters: &[Expr], session: &dyn Session) -> Result<Vec<HistoryFile>> {
        let (data_dir, table) = (self.data_dir.clone(), self.table.name);
        let times_ns = prune::times(filters, self.table.time);
        let mut files = tokio::task::spawn_blocking(move || hitscope_history::list(&data_dir, table, times_ns))
            .await
            .map_err(|error| DataFusionError::ExecutionJoin(error.into()))?
            .map_err(|error| DataFusionError::External(error.into()))?;
        prune::retain(&mut files, filters, self.columns.table_schema(), self.table.time, session)?;
        Ok(files)
    }

    fn closed(
        &self,
        session: &dyn Session,
        files: Vec<PartitionedFile>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::local_filesystem();
        let runtime = session.runtime_env();
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(runtime.object_store(&url)?, footers);
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let source = ParquetSource::new(self.columns.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let groups = FileGroup::new(files).split_files(session.config().target_partitions());
        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

#[async_trait]
impl TableProvider for History {
    fn schema(&self) -> SchemaRef {
        self.columns.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They choose files, row groups and pages; the rows that are left are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let mut attempt = 1;
        let (closed, batches) = loop {
            let (open, closed): (Vec<_>, Vec<_>) =
                self.list(filters, session).await?.into_iter().partition(HistoryFile::is_open);
            let (cubes, table, columns) = (self.open.clone(), self.table.name, schema.clone());
            let read = tokio::task::spawn_blocking(move || cubes.read(table, &open, &columns)).await;
            match read.map_err(|error| DataFusionError::ExecutionJoin(error.into()))? {
                Ok(batches) => break (closed, batches),
                // The cube was closed in between; its Parquet file is in the next listing.
                Err(hitscope_history::Error::Gone { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(DataFusionError::External(error.into())),
            }
        };

        let mut parts = Vec::new();
        if !closed.is_empty() {
            let files = closed.iter().map(parquet_file).collect::<Result<_>>()?;
            parts.push(self.closed(session, files, projection, limit)?);
        }
        if !batches.is_empty() {
            parts.push(MemorySourceConfig::try_new_exec(&[batches], schema.clone(), projection.cloned())?);
        }
        if parts.is_empty() {
            let schema = projection.map_or(Ok(schema.clone()), |indices| schema.project(indices).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(parts)
    }
}

fn folder_columns() -> Vec<FieldRef> {
    vec![
        Arc::new(Field::new("host", DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()), false)),
        Arc::new(Field::new("date", DataType::Date32, false)),
    ]
}

fn parquet_file(file: &HistoryFile) -> Result<PartitionedFile> {
    let location =
        StorePath::from_absolute_path(&file.path).map_err(|error| DataFusionError::External(error.into()))?;
    // Its age tells a file that was written anew from the one whose footer is cached.
    let metadata = std::fs::metadata(&file.path)?;
    if metadata.ino() != file.inode {
        let path = file.path.clone();
        return Err(DataFusionError::External(hitscope_history::Error::Gone { path }.into()));
    }
    let meta = ObjectMeta {
        location,
        last_modified: metadata.modified()?.into(),
        size: metadata.len(),
        e_tag: None,
        version: None,
    };
    let host = ScalarValue::Dictionary(DataType::Int32.into(), Box::new(ScalarValue::from(file.host.as_str())));
    let values = vec![host, ScalarValue::Date32(Some(day(file)))];
    Ok(PartitionedFile::new_from_meta(meta).with_partition_values(values))
}
