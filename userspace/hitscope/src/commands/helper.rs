//! `hitscope helper`: the collector's child that looks into strangers' files. Not for people.

use std::process::ExitCode;

use hitscope_base::{Explain, Failure};
use hitscope_cli::name_process;

use crate::{
    capabilities::{self, Capabilities},
    os,
};

/// Gives up all there is to give up, and answers until the collector ends.
pub fn helper() -> Result<ExitCode, Failure> {
    name_process(c"hitscope-helper");
    os::die_with_parent().explain("cannot follow the collector to its end")?;
    capabilities::drop_bounding_set();
    Capabilities::NONE.keep_only().explain("cannot give up capabilities")?;
    hitscope_helper::serve().explain("the helper ended; it is started by the collector alone")?;
    Ok(ExitCode::SUCCESS)
}
