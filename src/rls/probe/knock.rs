//! Tables that are out of reach: the catalogue says so, and PostgreSQL is asked.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use crate::Result;
use crate::rls::probe::Results;
use crate::rls::probe::batch::{Batch, Front};
use crate::rls::probe::runner::{self, Item};
use crate::rls::probe::schema::Node;

impl Batch<'_> {
    /// Tries to read the tables that no role has a right on; gives what came of it: nothing, or why it proves nothing.
    pub(super) async fn knock(
        &self,
        connection: &mut PgConnection,
        fronts: &[Front<'_>],
        results: &mut Results,
    ) -> Result<BTreeMap<u32, Option<String>>> {
        let app = &self.shared.scope.app.name;
        let shut = self.targets.iter().filter(|oid| !fronts.iter().any(|front| front.oid == **oid));
        let nodes: Vec<&Node> = shut.filter_map(|oid| self.nodes.get(oid)).collect();
        let items: Vec<Item> = nodes
            .iter()
            .map(|node| Item {
                attempts: vec![format!("SELECT FROM {}", node.name)],
                role: Some(app.clone()),
                ..Item::default()
            })
            .collect();
        let outcomes = runner::run(connection, &items).await?;
        results.attempts.tried += outcomes.len();
        let mut kept_out = BTreeMap::new();
        for (node, outcome) in nodes.into_iter().zip(outcomes) {
            let denied = outcome.error().is_some_and(|error| error.code == "42501");
            let count =
                if denied { &mut results.attempts.failed } else { &mut results.attempts.inconclusive };
            *count += 1;
            let reason = (!denied).then(|| match outcome.error() {
                Some(error) => format!("{app} has no right on it and got {} ({})", error.message, error.code),
                None => format!("{app} reads it without a right that the catalogue would show"),
            });
            kept_out.insert(node.oid.0, reason);
        }
        Ok(kept_out)
    }
}
