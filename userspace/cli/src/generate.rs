//! Man pages and shell completions, written from the definition of the command line.

use std::{fs, path::PathBuf};

use clap::Args;
use clap_complete::Shell;
use hitscope_base::{Explain, Failure};

/// Write man pages and shell completions, for packages
#[derive(Args, Debug)]
#[command(after_help = "Example:
  hitscope generate ./generated")]
pub struct Generate {
    /// Folder to write to; they go to man/ and completions/ in it
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

impl Generate {
    /// Writes those of a program.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, command: &clap::Command) -> Result<(), Failure> {
        let what = || format!("cannot write to {}", self.folder.display());
        let (pages, completions) = (self.folder.join("man"), self.folder.join("completions"));
        for folder in [&pages, &completions] {
            fs::create_dir_all(folder).explain(what())?;
        }
        // `help` of each command would be a page of its own.
        clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &pages).explain(what())?;
        let mut command = command.clone();
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, &name, &completions).explain(what())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let command = clap::Command::new("thing")
            .subcommand(clap::Command::new("run").about("Runs").after_help("Examples:\n  thing run"))
            .subcommand(clap::Command::new("secret").hide(true));
        Generate { folder: folder.path().to_owned() }.write(&command).unwrap();
        let names = |of: &str| {
            let mut names: Vec<_> = fs::read_dir(folder.path().join(of))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("man"), ["thing-run.1", "thing.1"]);
        assert_eq!(names("completions"), ["_thing", "thing.bash", "thing.fish"]);
        let page = fs::read_to_string(folder.path().join("man/thing-run.1")).unwrap();
        assert!(page.contains("Runs") && page.contains("thing run"), "{page}");
    }
}
