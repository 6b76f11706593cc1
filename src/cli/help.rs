//! `tenantctl help`.

use clap::{Args as ClapArgs, CommandFactory};
use serde::Serialize;
use tenancy::Error;

use super::{Cli, exit};
use crate::output::{Printable, Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// A command, or `exit-codes`
    topic: Vec<String>,
}

#[derive(Serialize)]
struct ExitCode {
    code: u8,
    meaning: &'static str,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ExitCodes(Vec<ExitCode>);

#[derive(Serialize)]
struct Help {
    help: String,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<Box<dyn Printable>> {
        if self.topic == ["exit-codes"] {
            let codes = exit::CODES.iter().map(|(code, meaning)| ExitCode { code: *code, meaning });
            return Ok(Box::new(ExitCodes(codes.collect())));
        }
        let mut command = Cli::command();
        command.build();
        let mut found = &mut command;
        for word in &self.topic {
            found = found.find_subcommand_mut(word).ok_or_else(|| Error::NotFound {
                kind: "help",
                name: word.clone(),
                suggestion: None,
            })?;
        }
        Ok(Box::new(Help { help: found.render_long_help().to_string() }))
    }
}

impl Report for ExitCodes {
    fn view(&self) -> View {
        View::List {
            headers: vec!["CODE", "MEANING"],
            rows: self.0.iter().map(|code| vec![code.code.to_string(), code.meaning.to_owned()]).collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|code| code.code.to_string()).collect()
    }
}

impl Report for Help {
    fn view(&self) -> View {
        View::Text(self.help.clone())
    }

    fn ids(&self) -> Vec<String> {
        Vec::new()
    }
}
