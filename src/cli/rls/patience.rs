//! Trying again where a table was busy.

use std::time::Duration;

use tenancy::{Error, ErrorKind};

/// How often a table is tried before the command gives up.
const ATTEMPTS: u32 = 5;

/// The tries that are left.
pub(crate) struct Patience {
    failed: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { failed: 0 }
    }

    /// Waits before the next try, longer each time, so that whoever queues behind us gets their turn; gives the error
    /// back where it is not one of being busy, or was met too often.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        self.failed += 1;
        if error.kind() != ErrorKind::Conflict || self.failed >= ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(self.failed)).await;
        Ok(())
    }
}
