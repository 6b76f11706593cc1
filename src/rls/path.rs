//! The way an intruder takes to a finding that lies several steps away, every step by name: login, role, view, table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::rls::report::Step;
use crate::rls::scope::Scope;
use crate::{Error, Result};

/// A thing on the way: `role`, `relation`, `function`, `schema` or `database`, and its oid.
pub(crate) type Stop = (String, u32);

/// What leads directly to what.
type Ways = BTreeMap<Stop, BTreeSet<Stop>>;

#[derive(sqlx::FromRow)]
struct Edge {
    from_class: String,
    from_oid: Oid,
    to_class: String,
    to_oid: Oid,
}

#[derive(sqlx::FromRow)]
struct Login {
    oid: Oid,
    /// Whether row-level security binds it, and it is nobody who administers.
    bound: bool,
}

#[derive(sqlx::FromRow)]
struct Named {
    class: String,
    oid: Oid,
    kind: String,
    name: String,
}

/// The stops that a check names, each as `class oid`.
pub(crate) fn stops(column: &[String]) -> Result<Vec<Stop>> {
    let stop = |text: &String| {
        let (class, oid) = text.split_once(' ')?;
        Some((class.to_owned(), oid.parse().ok()?))
    };
    let bad =
        |text: &String| Error::Database(sqlx::Error::Decode(format!("no stop of a path: {text}").into()));
    column.iter().map(|text| stop(text).ok_or_else(|| bad(text))).collect()
}

/// Completes paths of which checks know some stops: from the login or the application role on, with every hop between
/// them. Nothing is left of a path that leads nowhere else.
pub(crate) async fn complete(
    connection: &mut PgConnection,
    scope: &Scope,
    routes: &[Vec<Stop>],
) -> Result<Vec<Vec<Step>>> {
    let with_functions = routes.iter().flatten().any(|(class, _)| class == "function");
    let edges: Vec<Edge> = sqlx::query_as(include_str!("../../sql/rls/path/edges.sql"))
        .bind(with_functions)
        .fetch_all(&mut *connection)
        .await?;
    let mut ways = Ways::new();
    for edge in edges {
        let (from, to) = ((edge.from_class, edge.from_oid.0), (edge.to_class, edge.to_oid.0));
        ways.entry(from).or_default().insert(to);
    }
    let logins: Vec<Login> = sqlx::query_as(include_str!("../../sql/rls/path/logins.sql"))
        .bind(scope.app.oid)
        .bind(scope.owner_role)
        .fetch_all(&mut *connection)
        .await?;
    let map = Map { ways, app: ("role".into(), scope.app.oid.0), logins };
    let whole: Vec<Vec<Stop>> = routes.iter().map(|stops| map.whole(stops)).collect();
    let wanted: BTreeSet<&Stop> = whole.iter().flatten().collect();
    let (classes, oids): (Vec<&str>, Vec<Oid>) =
        wanted.into_iter().map(|(class, oid)| (class.as_str(), Oid(*oid))).unzip();
    let named: Vec<Named> = sqlx::query_as(include_str!("../../sql/rls/path/names.sql"))
        .bind(classes)
        .bind(oids)
        .fetch_all(connection)
        .await?;
    let names: BTreeMap<Stop, Step> = named
        .into_iter()
        .map(|one| ((one.class, one.oid.0), Step { kind: one.kind, name: one.name }))
        .collect();
    let path = |stops: Vec<Stop>| stops.iter().filter_map(|stop| names.get(stop).cloned()).collect();
    Ok(whole.into_iter().map(path).collect())
}

struct Map {
    ways: Ways,
    app: Stop,
    /// Logins behind the application role, the nearest first.
    logins: Vec<Login>,
}

impl Map {
    /// The path through these stops, from its beginning.
    fn whole(&self, stops: &[Stop]) -> Vec<Stop> {
        let mut path = vec![self.app.clone()];
        let mut reset = false;
        for stop in stops {
            let Some(last) = path.last().cloned() else { break };
            if let Some(way) = self.shortest(&last, stop) {
                path.extend(way.into_iter().skip(1));
            } else if let Some(way) = (last == self.app).then(|| self.back(stop)).flatten() {
                path.extend(way);
                reset = true;
            } else {
                path.push(stop.clone());
            }
        }
        if path.len() < 2 {
            return Vec::new();
        }
        // Where RESET ROLE is a step the login is on the path already.
        let is_app = |login: &Login| login.oid.0 == self.app.1;
        if !reset && !self.logins.iter().any(is_app) {
            let first = self.logins.iter().find(|login| login.bound);
            let way = first.and_then(|login| self.shortest(&("role".into(), login.oid.0), &self.app));
            if let Some(mut way) = way {
                way.pop();
                way.append(&mut path);
                return way;
            }
        }
        path
    }

    /// From the application role by RESET ROLE to a login behind it, and on from there.
    fn back(&self, stop: &Stop) -> Option<Vec<Stop>> {
        let from = |login: &Login| self.shortest(&("role".into(), login.oid.0), stop);
        self.logins.iter().filter_map(from).min_by_key(Vec::len)
    }

    /// The fewest steps from one to the other, both included.
    fn shortest(&self, from: &Stop, to: &Stop) -> Option<Vec<Stop>> {
        let mut came_from: BTreeMap<&Stop, &Stop> = BTreeMap::new();
        let mut work = VecDeque::from([from]);
        while let Some(at) = work.pop_front() {
            if at == to {
                let mut way = vec![at.clone()];
                let mut at = at;
                while at != from {
                    at = came_from.get(at)?;
                    way.push(at.clone());
                }
                way.reverse();
                return Some(way);
            }
            for next in self.ways.get(at).into_iter().flatten() {
                if next != from && !came_from.contains_key(next) {
                    came_from.insert(next, at);
                    work.push_back(next);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(oid: u32) -> Stop {
        ("role".into(), oid)
    }

    /// The application role is 1.
    fn map(edges: &[(u32, u32)], logins: &[(u32, bool)]) -> Map {
        let mut ways = Ways::new();
        for (from, to) in edges {
            ways.entry(role(*from)).or_default().insert(role(*to));
        }
        let logins = logins.iter().map(|(oid, bound)| Login { oid: Oid(*oid), bound: *bound }).collect();
        Map { ways, app: role(1), logins }
    }

    fn whole(map: &Map, stops: &[u32]) -> Vec<u32> {
        let stops: Vec<Stop> = stops.iter().map(|oid| role(*oid)).collect();
        map.whole(&stops).into_iter().map(|(_, oid)| oid).collect()
    }

    #[test]
    fn every_hop_of_the_shortest_way() {
        let map = map(&[(1, 2), (2, 3), (3, 4), (1, 3), (4, 5), (5, 2), (9, 8), (8, 1)], &[(9, true)]);
        assert_eq!(whole(&map, &[4]), [9, 8, 1, 3, 4]);
        assert_eq!(whole(&map, &[4, 2]), [9, 8, 1, 3, 4, 5, 2]);
        assert_eq!(whole(&map, &[3, 3, 7]), [9, 8, 1, 3, 7], "what has no edge is the next step");
        assert_eq!(whole(&map, &[1]), [0; 0], "nothing but the application role");
    }

    #[test]
    fn reset_role_leads_to_the_login_first() {
        let edges = [(9, 8), (8, 1), (9, 6), (6, 7), (10, 1)];
        let map = map(&edges, &[(10, false), (9, true)]);
        assert_eq!(whole(&map, &[7]), [1, 9, 6, 7]);
        assert_eq!(whole(&map, &[10]), [1, 10]);
        assert_eq!(whole(&map, &[10, 5]), [1, 10, 5]);
    }

    #[test]
    fn who_logs_in_itself_has_no_login_before_it() {
        let map = map(&[(1, 2), (9, 1)], &[(1, true), (9, true)]);
        assert_eq!(whole(&map, &[2]), [1, 2]);
    }

    #[test]
    fn a_stop_is_a_class_and_an_oid() {
        assert_eq!(stops(&["role 12".into()]).unwrap(), [role(12)]);
        assert!(stops(&["role".into()]).is_err() && stops(&["role x".into()]).is_err());
    }
}
