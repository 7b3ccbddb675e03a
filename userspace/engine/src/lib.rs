//! The SQL engine over the history folder, and how its rows are written.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hitscope_engine::catalog::{Catalog, Options};
//!
//! let catalog = Catalog::open("/var/lib/hitscope".as_ref(), Options::default())?;
//! let slowest = catalog.query("SELECT operation, max(max_ns) FROM operations GROUP BY 1 ORDER BY 2 DESC LIMIT 5").await?;
//! println!("{} rows", slowest.rows());
//! # Ok(())
//! # }
//! ```

pub mod catalog;
pub mod output;
pub mod question;
#[cfg(test)]
#[allow(dead_code, reason = "the rest is for the server's tests")]
mod testing;
pub mod views;
pub mod worker;
pub mod workers;
