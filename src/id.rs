//! What identifies a tenant, for the rooms that need no more of it.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

/// Identifies a tenant: what the tenant columns of the platform's tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
