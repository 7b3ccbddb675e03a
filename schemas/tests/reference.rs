//! `docs/tables.md` says what the schemas say.
#![cfg(feature = "tables")]

use std::path::Path;
use std::{env, fs};

/// `cargo xtask docs` sets this to have the page written instead of compared.
const WRITE: &str = "HITSCOPE_WRITE_DOCS";

#[test]
fn table_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tables.md");
    let page = hitscope_schemas::tables::reference();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &page).expect("docs/tables.md is writable");
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "docs/tables.md is stale: run `cargo xtask docs`");
}
