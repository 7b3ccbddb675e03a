//! The unprivileged half: it reads the history folder, answers SQL over it, serves the API and the page, and evaluates
//! alert rules.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hitscope_server::catalog::{Catalog, Options};
//!
//! let catalog = Catalog::open("/var/lib/hitscope".as_ref(), Options::default())?;
//! let slowest = catalog.query("SELECT operation, max(max_ns) FROM operations GROUP BY 1 ORDER BY 2 DESC LIMIT 5").await?;
//! println!("{} rows", slowest.rows());
//! # Ok(())
//! # }
//! ```

pub mod alerts;
pub mod catalog;
pub mod output;
mod serve;
mod settings;
#[cfg(test)]
mod testing;
mod units;
pub mod views;
mod web;

pub use serve::{Config, Error, serve};
pub use settings::Settings;
pub use units::{Size, Span};
