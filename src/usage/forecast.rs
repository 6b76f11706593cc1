//! When a limit will be reached, if use goes on as it did.
//!
//! A line is fitted by ordinary least squares to what was used in all at the end of each of the last days, and now. Where it
//! meets the limit is the date; the interval are the dates at which the bounds of the 95 % prediction interval of a single
//! observation meet it (inverse prediction, as in Draper and Smith, Applied Regression Analysis).

use serde::Serialize;
use sqlx::PgConnection;
use time::{Date, Duration, OffsetDateTime, UtcOffset};

use super::{Metric, UNLIMITED, Unit, find_metric, history};
use crate::plan::EnvironmentLimits;
use crate::tenant::{self, Tenant, TenantRef};
use crate::{Error, Result};

/// How many days are looked at, the present one included.
const DAYS: i64 = 30;
/// How many there have to be.
const LEAST: usize = 3;

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// The limit is reached on the date.
    Expected,
    /// The period ends before the limit is reached.
    NotInPeriod,
    /// Use does not grow, or too slowly for any date.
    NotAtThisPace,
    /// The limit is reached already.
    Reached,
    /// There is no limit.
    Unlimited,
    /// There is too little to go by; the reason says what is missing.
    Unknown,
}

/// When the limit of a metric will be reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What it counts.
    pub unit: Unit,
    /// What is used now.
    pub used: i64,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// What is expected.
    pub outlook: Outlook,
    /// When the limit is reached.
    #[serde(with = "time::serde::rfc3339::option")]
    pub date: Option<OffsetDateTime>,
    /// The earliest date within the interval; none where use varies too much for one.
    #[serde(with = "time::serde::rfc3339::option")]
    pub earliest: Option<OffsetDateTime>,
    /// The latest.
    #[serde(with = "time::serde::rfc3339::option")]
    pub latest: Option<OffsetDateTime>,
    /// How it was found.
    pub method: Option<String>,
    /// By how much use grows in a day.
    pub slope_per_day: Option<f64>,
    /// How many days it was found from.
    pub days: Option<usize>,
    /// When the period ends, and use begins at nothing; none where the metric never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_end: Option<OffsetDateTime>,
    /// Why nothing is known.
    pub reason: Option<String>,
}

/// When the limits of a tenant will be reached: that of one metric, or of every one.
///
/// # Errors
/// [`Error::NotFound`] for the tenant or the metric; [`Error::Configuration`] where a variable of the environment holds no
/// limit.
pub async fn forecast(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: Option<&str>,
    environment: &EnvironmentLimits,
) -> Result<Vec<Forecast>> {
    let tenant = tenant::find(connection, tenant).await?;
    let keys = match metric {
        Some(key) => vec![key.to_owned()],
        None => {
            let metrics = sqlx::query_file!("sql/usage/metrics.sql").fetch_all(&mut *connection).await?;
            metrics.into_iter().map(|metric| metric.key).collect()
        }
    };
    let mut forecasts = Vec::with_capacity(keys.len());
    for key in keys {
        let metric = find_metric(connection, &key).await?;
        forecasts.push(of_metric(connection, &tenant, metric, environment).await?);
    }
    Ok(forecasts)
}

async fn of_metric(
    connection: &mut PgConnection,
    tenant: &Tenant,
    metric: Metric,
    environment: &EnvironmentLimits,
) -> Result<Forecast> {
    let stand_in = environment.get(&tenant.plan, &metric.key, metric.unit)?;
    let stand_in = stand_in.map(|limit| limit.unwrap_or(UNLIMITED));
    let start = sqlx::query_file!("sql/usage/forecast.sql", tenant.id.0, metric.key, stand_in)
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| Error::NotFound { kind: "metric", name: metric.key.clone(), suggestion: None })?;
    let mut forecast = Forecast {
        tenant: tenant.slug.to_string(),
        metric: metric.key.clone(),
        unit: metric.unit,
        used: start.used,
        limit: start.limit_value,
        outlook: Outlook::Unknown,
        date: None,
        earliest: None,
        latest: None,
        method: None,
        slope_per_day: None,
        days: None,
        period_end: start.period_end,
        reason: None,
    };
    let Some(limit) = start.limit_value else {
        forecast.outlook = Outlook::Unlimited;
        return Ok(forecast);
    };
    if start.used >= limit {
        forecast.outlook = Outlook::Reached;
        return Ok(forecast);
    }
    if metric.source == "memberships" {
        forecast.reason =
            Some("it is counted from the tenant's members, of which no usage is recorded".into());
        return Ok(forecast);
    }
    if start.aggregation == "max" {
        forecast.reason = Some("it counts the largest amount, which does not grow day by day".into());
        return Ok(forecast);
    }
    if start.reset == "daily" {
        // Of no day can there be enough days to go by.
        forecast.reason = Some("it resets every day".into());
        return Ok(forecast);
    }
    let now = start.now.to_offset(UtcOffset::UTC);
    let today = now.date();
    let from = [start.first, start.period_start.map(|at| at.to_offset(UtcOffset::UTC).date())];
    let first = from.into_iter().flatten().fold(today.saturating_sub(Duration::days(DAYS - 1)), Date::max);
    let days = match start.first {
        Some(_) if first <= today => history::days(connection, tenant, &metric.key, first, today).await?,
        _ => Vec::new(),
    };
    forecast.days = Some(days.len());
    if days.len() < LEAST {
        forecast.reason = Some(format!("usage of {LEAST} days is needed, there are {}", days.len()));
        return Ok(forecast);
    }
    // What was used in all when each day ended: what is used now without all that came later.
    let mut used = start.used as f64;
    let mut points = vec![(0.0, used)];
    for day in days.iter().skip(1).rev() {
        used -= day.amount as f64;
        points.push(((day.day.midnight().assume_utc() - now).as_seconds_f64() / 86_400.0, used));
    }
    let line = Line::fit(&points);
    forecast.method = Some(format!("least squares over {} days, 95 % prediction interval", days.len()));
    forecast.slope_per_day = Some(line.slope);
    // The line may have met the limit already, while what is used has not.
    let at = |x: f64| now.checked_add(Duration::checked_seconds_f64(x.max(0.0) * 86_400.0)?);
    forecast.date = line.meets(limit as f64).and_then(at);
    forecast.outlook = match (forecast.date, start.period_end) {
        (None, _) => Outlook::NotAtThisPace,
        (Some(date), Some(end)) if date >= end => Outlook::NotInPeriod,
        _ => Outlook::Expected,
    };
    if forecast.outlook == Outlook::NotInPeriod {
        forecast.date = None;
    }
    if let (Some(_), Some((earliest, latest))) = (forecast.date, line.interval(limit as f64)) {
        forecast.earliest = at(earliest);
        forecast.latest = at(latest);
    }
    Ok(forecast)
}

/// The 97.5 % quantiles of Student's distribution for 1, 2, … degrees of freedom.
const STUDENT: [f64; 28] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
];

/// A line through points by least squares.
#[derive(Debug)]
struct Line {
    points: usize,
    slope: f64,
    mean_x: f64,
    mean_y: f64,
    /// Sum of the squares of the distances from the mean.
    spread: f64,
    /// Variance of the points about the line.
    variance: f64,
}

impl Line {
    /// There are three points at least, not all at one place.
    fn fit(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let rest = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum::<f64>();
        Self { points: points.len(), slope, mean_x, mean_y, spread, variance: rest / (n - 2.0) }
    }

    /// Where it rises to a height.
    fn meets(&self, height: f64) -> Option<f64> {
        (self.slope > 0.0).then(|| self.mean_x + (height - self.mean_y) / self.slope)
    }

    /// Between where and where a single observation rises to a height, with 95 %: the solutions of
    /// `(slope·u − d)² = t²·s²·(1 + 1/n + u²/Sxx)`, with `u` and `d` from the means. None where the slope is too uncertain.
    fn interval(&self, height: f64) -> Option<(f64, f64)> {
        let t = STUDENT.get(self.points.checked_sub(3)?)?;
        let t2s2 = t * t * self.variance;
        let certain = self.slope.powi(2) - t2s2 / self.spread;
        if self.slope <= 0.0 || certain <= 0.0 {
            return None;
        }
        let d = height - self.mean_y;
        let middle = self.mean_x + self.slope * d / certain;
        let single = 1.0 + 1.0 / self.points as f64;
        let half = (t2s2 * (single * certain + d * d / self.spread)).sqrt() / certain;
        Some((middle - half, middle + half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// Figures from a program that knows nothing of the formula: it follows the bounds of the prediction interval along
    /// x until they meet the height.
    #[test]
    fn a_worked_example() {
        let line = Line::fit(&[(0.0, 2.1), (1.0, 3.9), (2.0, 6.2), (3.0, 7.8), (4.0, 10.1)]);
        close(line.slope, 1.99);
        close(line.variance, 0.035_666_666_666_666_6);
        close(line.meets(20.0).unwrap(), 9.025_125_628_140_705);
        let (earliest, latest) = line.interval(20.0).unwrap();
        close(earliest, 8.335_581_333_039_572);
        close(latest, 9.843_976_137_810_067);
    }

    #[test]
    fn a_line_without_doubt_has_an_interval_without_width() {
        let line = Line::fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]);
        assert_eq!(line.meets(9.0), Some(4.0));
        assert_eq!(line.interval(9.0), Some((4.0, 4.0)));
    }

    #[test]
    fn what_falls_or_stands_meets_nothing() {
        for fall in [0.0, -1.0] {
            let line = Line::fit(&[(0.0, 4.0), (1.0, 4.0 + fall), (2.0, 4.0 + 2.0 * fall)]);
            assert_eq!((line.meets(9.0), line.interval(9.0)), (None, None));
        }
        // It rises, and could as well fall.
        let line = Line::fit(&[(0.0, 0.0), (1.0, 9.0), (2.0, 1.0)]);
        assert!(line.meets(20.0).is_some());
        assert_eq!(line.interval(20.0), None);
    }
}
