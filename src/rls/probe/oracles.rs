//! Keys that tell what other tenants have: a unique key refuses their values, a reference accepts their rows. Policies
//! have no say in either.

use crate::db::quote::{ident, literal};
use crate::rls::probe::attack::{Attack, Command, Target};
use crate::rls::probe::commands::Extra;
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::{Item, Outcome};

/// What a key told.
pub(crate) struct Told {
    /// Its name.
    pub(crate) key: String,
    pub(crate) evidence: String,
}

impl Target<'_> {
    /// An attack for each key that the catalogue suspects.
    pub(crate) fn oracles(&self) -> Vec<Command> {
        let keys = self.node.constraints.iter().enumerate();
        // What is checked at the end of the transaction has not answered when the statement ends.
        let keys = keys.filter(|(_, key)| !key.is_deferrable && self.suspected.contains(&key.name));
        keys.filter_map(|(at, key)| match key.kind.as_str() {
            "u" | "x" => Some(Command::Extra(Extra::Take(at))),
            "f" => Some(Command::Extra(Extra::Point(at))),
            _ => None,
        })
        .collect()
    }

    /// A row of A's that has B's values in a key, where the role may give them.
    fn meeting(&self, key: usize) -> Option<Values> {
        let mut row = self.spares[0].clone()?;
        for column in &self.node.constraints.get(key)?.columns {
            if Some(*column) == self.node.tenant {
                continue;
            }
            let at = self.node.position(*column)?;
            let may = self.privileges.inserts.contains(column) && !self.node.columns.get(at)?.is_generated;
            let value = self.rows[1].get(at)?.as_ref().filter(|_| may)?;
            *row.get_mut(at)? = Some(value.clone());
        }
        Some(row)
    }

    /// Adds a row of its own that meets B's in a key.
    pub(crate) fn take(&self, item: &mut Item, key: usize) -> Option<()> {
        let row = self.given(&self.meeting(key)?)?;
        item.attempts.push(format!("INSERT INTO {} {row}", self.node.name));
        item.oracle = None;
        Some(())
    }

    /// Adds a row of its own that refers to what B's refers to, and looks whether it still does.
    pub(crate) fn point(&self, item: &mut Item, key: usize) -> Option<()> {
        let row = self.meeting(key)?;
        let mut same = Vec::new();
        for column in &self.node.constraints.get(key)?.columns {
            let at = self.node.position(*column)?;
            let value = literal(row.get(at)?.as_ref()?);
            self.privileges.selects.contains(column).then_some(())?;
            let column = self.node.columns.get(at)?;
            same.push(format!("{} = {value}::{}", ident(&column.name), column.type_name));
        }
        item.attempts.push(format!(
            "INSERT INTO {} {} RETURNING CASE WHEN {} THEN 'accepted' END",
            self.node.name,
            self.given(&row)?,
            same.join(" AND ")
        ));
        item.oracle = None;
        item.returns = true;
        Some(())
    }

    /// What the key told in such an attack, if anything.
    pub(crate) fn told(&self, attack: &Attack, item: &Item, outcome: &Outcome) -> Option<Told> {
        let (key, what) = match attack.command {
            Command::Extra(Extra::Take(key)) => {
                let refusal = outcome.error()?;
                matches!(refusal.code.as_str(), "23505" | "23P01").then_some(())?;
                // Another key may have refused it before this one was asked.
                (refusal.constraint == self.node.constraints.get(key)?.name).then_some(())?;
                (key, format!("{} ({})", refusal.message, refusal.code))
            }
            Command::Extra(Extra::Point(key)) if outcome.answer.as_deref() == Some("accepted") => {
                (key, "accepted".to_string())
            }
            _ => return None,
        };
        let key = self.node.constraints.get(key)?.name.clone();
        Some(Told { key, evidence: self.evidence(attack, item, outcome, &what) })
    }
}
