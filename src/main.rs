//! `tenantctl`: the command line of the `tenancy` library.

mod cli;
mod output;

fn main() -> std::process::ExitCode {
    cli::main()
}
