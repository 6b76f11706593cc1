//! Usage from many callers at once: what they track within a moment becomes one statement and one commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::record::{Batch, Recorded, Verdict};
use crate::context::Signer;
use crate::id::TenantId;
use crate::{Error, ErrorKind, Result};

/// How long a connection is kept for the next batch.
const IDLE: Duration = Duration::from_secs(1);

/// How a [`UsageRecorder`] works.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// How long the first caller of a batch waits for others.
    pub linger: Duration,
    /// Most events of one statement.
    pub batch: usize,
    /// Most callers that wait to be taken into a batch; more wait to be among them.
    pub queue: usize,
    /// How long a batch is tried again while the database cannot be reached, or another transaction stands in the way.
    pub patience: Duration,
    /// What signs the contexts where the control plane's context is sealed.
    pub signer: Option<Signer>,
}

impl Default for RecorderOptions {
    /// A millisecond, 5,000 events, twice as many waiting, ten seconds, no signer.
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(1),
            batch: 5_000,
            queue: 10_000,
            patience: Duration::from_secs(10),
            signer: None,
        }
    }
}

/// Usage to [`track`](UsageRecorder::track).
#[derive(Debug, Clone)]
pub struct Usage {
    /// Whose.
    pub tenant: TenantId,
    /// Key of the metric.
    pub metric: String,
    /// How much, in the metric's unit; negative amounts release a gauge.
    pub amount: i64,
    /// Makes a replay harmless; without one the recorder makes one, for its own.
    pub key: Option<String>,
    /// When it happened; none for now.
    pub at: Option<OffsetDateTime>,
}

/// Merges what concurrent callers track into statements of the control plane's function `tenancy.track_usages`, on
/// connections of a login that is a member of the application role. Who called first is decided first. One statement
/// runs at a time: more would only wait for each other's counters. It keeps a connection of the pool until nobody has called
/// for a second.
#[derive(Debug)]
pub struct UsageRecorder {
    calls: mpsc::Sender<Call>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Call {
    Track(Box<Usage>, oneshot::Sender<Result<Recorded>>),
    /// The last one.
    Close,
}

impl UsageRecorder {
    /// Begins to work, on the runtime of whoever calls.
    pub fn start(pool: PgPool, options: RecorderOptions) -> Self {
        let (calls, receiver) = mpsc::channel(options.queue.max(1));
        let worker = Worker {
            pool,
            options,
            name: Uuid::new_v4().simple().to_string(),
            next: AtomicU64::new(0),
            calls: receiver,
            connection: None,
        };
        Self { calls, worker: Mutex::new(Some(tokio::spawn(worker.run()))) }
    }

    /// Records usage if its limit allows it. The answer comes once it is committed. A caller that goes away before its
    /// usage is taken into a statement has tracked nothing; one that goes away later may have.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a metric or key with a NUL character, [`Error::Refused`] where the recorder is closed,
    /// [`Error::Shared`] with what befell the statement: where its connection was lost for longer than the recorder's
    /// patience, it may have been committed, and the same key again tells.
    pub async fn track(&self, usage: Usage) -> Result<Recorded> {
        // One such would fail for all.
        for (field, text) in [("metric", Some(&usage.metric)), ("key", usage.key.as_ref())] {
            if text.is_some_and(|text| text.contains('\0')) {
                return Err(Error::invalid(
                    field,
                    text.cloned().unwrap_or_default(),
                    "it has a NUL character",
                ));
            }
        }
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Track(Box::new(usage), reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Answers everybody who called before, and ends. Whoever calls later is refused.
    pub async fn close(&self) {
        // It fails where it is closed already.
        let _closed = self.calls.send(Call::Close).await;
        if let Some(worker) = self.worker.lock().await.take() {
            // It does not panic, and nobody else holds it.
            let _ended = worker.await;
        }
    }
}

fn closed() -> Error {
    Error::Refused { what: "the usage recorder is closed".into(), hint: None }
}

struct Worker {
    pool: PgPool,
    options: RecorderOptions,
    /// What the keys of those without one begin with, and how many it made.
    name: String,
    next: AtomicU64,
    calls: mpsc::Receiver<Call>,
    /// While batches follow one another.
    connection: Option<PoolConnection<Postgres>>,
}

/// A caller who waits, and whether the key is ours.
struct Waiting {
    usage: Usage,
    own_key: bool,
    reply: oneshot::Sender<Result<Recorded>>,
}

impl Worker {
    async fn run(mut self) {
        let mut calls = Vec::new();
        // As many as came last time are likely to come again, and then there is nobody else to wait for.
        let mut likely = 1;
        while let Some(first) = self.next_call().await {
            calls.push(first);
            let end = Instant::now() + self.options.linger;
            while calls.len() < self.options.batch {
                let room = self.options.batch - calls.len();
                // What is there already is taken in any case.
                let until = if calls.len() >= likely { Instant::now() } else { end };
                match timeout_at(until, self.calls.recv_many(&mut calls, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            likely = calls.len();
            let mut batch = Vec::with_capacity(calls.len());
            for call in calls.drain(..) {
                match call {
                    Call::Track(usage, reply) if !reply.is_closed() => {
                        batch.push(self.waiting(*usage, reply))
                    }
                    Call::Track(..) => {}
                    // Those who are in the queue are answered still.
                    Call::Close => self.calls.close(),
                }
            }
            if !batch.is_empty() {
                self.flush(batch).await;
            }
        }
    }

    /// The first call of a batch. The connection goes back to the pool where it takes long to come.
    async fn next_call(&mut self) -> Option<Call> {
        if self.connection.is_some() {
            match timeout(IDLE, self.calls.recv()).await {
                Ok(call) => return call,
                Err(_) => self.connection = None,
            }
        }
        self.calls.recv().await
    }

    fn waiting(&self, mut usage: Usage, reply: oneshot::Sender<Result<Recorded>>) -> Waiting {
        let own_key = usage.key.is_none();
        if own_key {
            // With a key the statement can be sent again when nobody knows what became of it.
            usage.key = Some(format!("{}-{:010}", self.name, self.next.fetch_add(1, Ordering::Relaxed)));
        }
        Waiting { usage, own_key, reply }
    }

    async fn flush(&mut self, waiting: Vec<Waiting>) {
        let now = OffsetDateTime::now_utc();
        let mut batch = Batch::default();
        for Waiting { usage, .. } in &waiting {
            batch.push(
                usage.tenant.0,
                &usage.metric,
                usage.amount,
                usage.key.clone(),
                usage.at.unwrap_or(now),
            );
        }
        let end = Instant::now() + self.options.patience;
        let mut pause = Duration::from_millis(10);
        let answers = loop {
            match self.record(&batch).await {
                Err(error) if passes(&error) && Instant::now() + pause < end => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                answers => break answers,
            }
        };
        match answers {
            Ok(answers) => {
                for (Waiting { own_key, reply, .. }, mut answer) in waiting.into_iter().zip(answers) {
                    if own_key && answer.verdict == Verdict::Duplicate {
                        // Of the first time that it was sent.
                        answer.verdict = Verdict::Accepted;
                    }
                    // Whoever went away has no use for it.
                    let _gone = reply.send(Ok(answer));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for Waiting { reply, .. } in waiting {
                    let _gone = reply.send(Err(Error::Shared(Arc::clone(&error))));
                }
            }
        }
    }

    /// Records a batch as the application role does, all contexts proven; the answers in the order of the events. It goes
    /// over the connection of the batch before, which has the statement's plans already.
    async fn record(&mut self, batch: &Batch) -> Result<Vec<Recorded>> {
        let signer = self.options.signer.as_ref();
        let contexts: Vec<String> = batch
            .tenants()
            .iter()
            .map(|tenant| signer.map_or_else(|| tenant.to_string(), |signer| signer.sign(tenant)))
            .collect();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        let answers = batch.track_in(&mut connection, &contexts).await;
        // One that failed may be lost; the pool finds out.
        if answers.is_ok() {
            self.connection = Some(connection);
        }
        answers
    }
}

/// Whether the same again may succeed.
fn passes(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
        || matches!(error, Error::Database(error)
            if matches!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("40P01" | "40001")))
}
