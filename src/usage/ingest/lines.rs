//! Reading lines: on a thread of its own, so that the next are ready when the database is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use super::{Format, Input};
use crate::unit::Unit;
use crate::{Error, Result};

/// Lines that are sorted together; about 200 bytes each while they wait.
const CHUNK: usize = 250_000;

/// Longest line that is looked at, in bytes: a key and two names have room.
const LONGEST: u64 = 65_536;

/// A line that may be usage.
pub(super) struct Line {
    /// The first is 1.
    pub(super) number: u64,
    /// Index into the chunk's tenants.
    pub(super) tenant: usize,
    /// Index into the chunk's metrics.
    pub(super) metric: usize,
    pub(super) amount: i64,
    pub(super) key: Option<String>,
    pub(super) at: OffsetDateTime,
}

/// Why a line cannot be usage.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Invalid(String),
    UnknownMetric,
}

/// Many lines, sorted by tenant, metric and time.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) lines: Vec<Line>,
    pub(super) faults: Vec<(u64, Fault)>,
    /// Slugs or ids, as they were written.
    pub(super) tenants: Vec<String>,
    pub(super) metrics: Vec<String>,
    pub(super) without_key: u64,
    /// What of the input was read.
    pub(super) bytes: u64,
    /// How long it is, where that is known.
    pub(super) of_bytes: Option<u64>,
}

/// Begins to read; the chunks come one by one.
pub(super) fn read(
    input: Input,
    format: Option<Format>,
    batch: Option<String>,
    metrics: HashMap<String, Unit>,
    now: OffsetDateTime,
) -> Result<mpsc::Receiver<Result<Chunk>>> {
    let name = match &input {
        Input::File(path) => path.display().to_string(),
        Input::Stdin => "standard input".into(),
    };
    let (source, length): (Box<dyn Read + Send>, _) = match &input {
        Input::File(path) => {
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            let meta = file.metadata().map_err(|error| unreadable(&name, &error))?;
            (Box::new(file), meta.is_file().then_some(meta.len()))
        }
        Input::Stdin => (Box::new(io::stdin()), None),
    };
    // Waits with one chunk while another is being recorded.
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("ingest".into())
        .spawn(move || {
            let bytes = Arc::new(AtomicU64::new(0));
            let counted = Counted { inner: source, bytes: Arc::clone(&bytes) };
            let mut metric_names: Vec<(String, Unit)> = metrics.into_iter().collect();
            metric_names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let mut reader = Reader {
                name,
                batch: batch.map(|batch| digest_of(batch.as_bytes())),
                input,
                metric_names,
                now,
                sender: &sender,
                chunk: Chunk::default(),
                tenants: HashMap::new(),
                bytes,
                length,
            };
            if let Err(Stop::Failed(error)) = reader.run(counted, format) {
                // Whoever waited for more may be gone; then nobody is left to tell.
                let _gone = sender.blocking_send(Err(error));
            }
        })
        .map_err(|error| Error::Configuration {
            what: format!("cannot start a thread: {error}"),
            hint: None,
        })?;
    Ok(receiver)
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::invalid("file", name, error.to_string())
}

/// A digest of what names a batch, in 16 hexadecimal digits.
fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn digest_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sha.finalize())),
            read => sha.update(&buffer[..read]),
        }
    }
}

struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Why reading ends before the end.
enum Stop {
    Failed(Error),
    /// Nobody wants more.
    NotNeeded,
}

struct Reader<'s> {
    name: String,
    input: Input,
    /// What keys of lines without one begin with, once it is known.
    batch: Option<String>,
    metric_names: Vec<(String, Unit)>,
    now: OffsetDateTime,
    sender: &'s mpsc::Sender<Result<Chunk>>,
    chunk: Chunk,
    tenants: HashMap<String, usize>,
    bytes: Arc<AtomicU64>,
    length: Option<u64>,
}

/// The fields of a line, as they were written.
struct Fields<'a> {
    tenant: Cow<'a, str>,
    metric: Cow<'a, str>,
    amount: Amount<'a>,
    key: Option<Cow<'a, str>>,
    at: Option<Cow<'a, str>>,
}

impl Reader<'_> {
    fn run(&mut self, source: impl Read + Send + 'static, format: Option<Format>) -> Result<(), Stop> {
        let mut source = BufReader::with_capacity(1 << 16, source);
        let failed = |name: &str, error: io::Error| Stop::Failed(unreadable(name, &error));
        let packed = source.fill_buf().map_err(|e| failed(&self.name, e))?.starts_with(&[0x1f, 0x8b]);
        let mut source: Box<dyn BufRead> = if packed {
            Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(source)))
        } else {
            Box::new(source)
        };
        let start = source.fill_buf().map_err(|e| failed(&self.name, e))?;
        if start.starts_with(b"\xef\xbb\xbf") {
            source.consume(3);
        }
        let start = source.fill_buf().map_err(|e| failed(&self.name, e))?;
        let looks_like_json =
            start.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|b| *b == b'{');
        match format.unwrap_or(if looks_like_json { Format::Ndjson } else { Format::Csv }) {
            Format::Ndjson => self.ndjson(source)?,
            Format::Csv => self.csv(source)?,
        }
        self.send()
    }

    fn ndjson(&mut self, mut source: Box<dyn BufRead>) -> Result<(), Stop> {
        let mut buffer = Vec::new();
        let mut number = 0;
        loop {
            buffer.clear();
            let read = (&mut source)
                .take(LONGEST)
                .read_until(b'\n', &mut buffer)
                .map_err(|error| Stop::Failed(unreadable(&self.name, &error)))?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            if read as u64 == LONGEST && !buffer.ends_with(b"\n") {
                skip_line(&mut source).map_err(|error| Stop::Failed(unreadable(&self.name, &error)))?;
                self.fault(number, format!("it has more than {LONGEST} bytes"))?;
                continue;
            }
            if buffer.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Object<'_>>(&buffer) {
                Ok(Object { tenant, metric, amount, key, at }) => {
                    self.line(number, Fields { tenant, metric, amount, key, at })?;
                }
                Err(error) => {
                    // The number of the line is ours to say.
                    let text = error.to_string();
                    let text = text.split(" at line ").next().unwrap_or(&text).to_owned();
                    self.fault(number, text)?;
                }
            }
        }
    }

    fn csv(&mut self, source: Box<dyn BufRead>) -> Result<(), Stop> {
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(source);
        let headers = reader.byte_headers().map_err(|error| self.broken(&error))?.clone();
        let known = ["tenant", "metric", "amount", "key", "at"];
        let column = |name: &str| headers.iter().position(|header| header == name.as_bytes());
        let (Some(tenant), Some(metric)) = (column("tenant"), column("metric")) else {
            return Err(Stop::Failed(Error::Invalid {
                field: "file",
                value: self.name.clone(),
                reason: "its first line has no columns tenant and metric".into(),
                hint: Some("begin CSV with: tenant,metric,amount,key,at".into()),
            }));
        };
        if let Some(other) = headers.iter().find(|header| !known.iter().any(|k| k.as_bytes() == *header)) {
            return Err(Stop::Failed(Error::invalid(
                "file",
                self.name.clone(),
                format!("there is no column {:?}, only {}", String::from_utf8_lossy(other), known.join(", ")),
            )));
        }
        let (amount, key, at) = (column("amount"), column("key"), column("at"));
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|error| self.broken(&error))? {
            let number = record.position().map_or(0, csv::Position::line);
            if record.len() != headers.len() {
                self.fault(number, format!("it has {} fields, not {}", record.len(), headers.len()))?;
                continue;
            }
            let read = |column: Option<usize>| {
                let field = column.and_then(|column| record.get(column)).filter(|field| !field.is_empty());
                field.map(std::str::from_utf8).transpose()
            };
            match (read(Some(tenant)), read(Some(metric)), read(amount), read(key), read(at)) {
                (Ok(tenant), Ok(metric), Ok(amount), Ok(key), Ok(at)) => self.line(
                    number,
                    Fields {
                        tenant: tenant.unwrap_or_default().into(),
                        metric: metric.unwrap_or_default().into(),
                        amount: amount.map_or(Amount::Number(1), |text| Amount::Text(text.into())),
                        key: key.map(Cow::from),
                        at: at.map(Cow::from),
                    },
                )?,
                _ => self.fault(number, "it is not UTF-8".into())?,
            }
        }
        Ok(())
    }

    fn broken(&self, error: &csv::Error) -> Stop {
        Stop::Failed(Error::invalid("file", self.name.clone(), error.to_string()))
    }

    fn line(&mut self, number: u64, fields: Fields<'_>) -> Result<(), Stop> {
        match self.parse(number, fields)? {
            Ok(line) => {
                self.chunk.lines.push(line);
                self.send_if_full()
            }
            Err(fault) => {
                self.chunk.faults.push((number, fault));
                self.send_if_full()
            }
        }
    }

    fn parse(&mut self, number: u64, fields: Fields<'_>) -> Result<Result<Line, Fault>, Stop> {
        let invalid = |reason: String| Ok(Err(Fault::Invalid(reason)));
        if fields.tenant.is_empty() {
            return invalid("it has no tenant".into());
        }
        // PostgreSQL's text has no such character.
        if [Some(&fields.tenant), Some(&fields.metric), fields.key.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| text.contains('\0'))
        {
            return invalid("it has a NUL character".into());
        }
        let Ok(metric) = self.metric_names.binary_search_by(|(name, _)| name.as_str().cmp(&fields.metric))
        else {
            return Ok(Err(Fault::UnknownMetric));
        };
        let amount = match fields.amount {
            Amount::Number(amount) => amount,
            Amount::Text(text) => match self.metric_names[metric].1.parse_amount(&text) {
                Ok(amount) => amount,
                Err(reason) => return invalid(format!("amount: {reason}")),
            },
        };
        let at = match fields.at {
            None => self.now,
            Some(text) => match OffsetDateTime::parse(&text, &Rfc3339) {
                Ok(at) => at,
                Err(error) => {
                    return invalid(format!("at: {error}; write for example 2026-11-30T12:00:00Z"));
                }
            },
        };
        let key = match fields.key {
            Some(key) if !(1..=1024).contains(&key.len()) => {
                return invalid("a key has 1 to 1024 bytes".into());
            }
            Some(key) => Some(key.into_owned()),
            None => match self.batch()? {
                Some(batch) => Some(format!("{batch}:{number}")),
                None => {
                    self.chunk.without_key += 1;
                    None
                }
            },
        };
        let tenant = match self.tenants.get(fields.tenant.as_ref()) {
            Some(index) => *index,
            None => {
                let index = self.chunk.tenants.len();
                self.chunk.tenants.push(fields.tenant.to_string());
                self.tenants.insert(fields.tenant.into_owned(), index);
                index
            }
        };
        Ok(Ok(Line { number, tenant, metric, amount, key, at }))
    }

    /// What the keys of lines without one begin with.
    fn batch(&mut self) -> Result<Option<&str>, Stop> {
        if self.batch.is_none()
            && let (Input::File(path), Some(_)) = (&self.input, self.length)
        {
            let digest =
                digest_of_file(path).map_err(|error| Stop::Failed(unreadable(&self.name, &error)))?;
            self.batch = Some(digest);
        }
        Ok(self.batch.as_deref())
    }

    fn fault(&mut self, number: u64, reason: String) -> Result<(), Stop> {
        self.chunk.faults.push((number, Fault::Invalid(reason)));
        self.send_if_full()
    }

    fn send_if_full(&mut self) -> Result<(), Stop> {
        if self.chunk.lines.len() + self.chunk.faults.len() < CHUNK { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.tenants.clear();
        // Neighbours in the index of keys come together, and each counter's events in the order of their time.
        chunk.lines.sort_unstable_by_key(|line| (line.tenant, line.metric, line.at, line.number));
        chunk.metrics = self.metric_names.iter().map(|(name, _)| name.clone()).collect();
        chunk.bytes = self.bytes.load(Ordering::Relaxed);
        chunk.of_bytes = self.length;
        self.sender.blocking_send(Ok(chunk)).map_err(|_| Stop::NotNeeded)
    }
}

fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let read = end.map_or(buffer.len(), |end| end + 1);
        source.consume(read);
        if end.is_some() || read == 0 {
            return Ok(());
        }
    }
}

/// A line of NDJSON. What it does not know is refused: it could be a misspelt key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    #[serde(borrow, default)]
    amount: Amount<'a>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    at: Option<Cow<'a, str>>,
}

/// A number, or a size such as 5GB.
enum Amount<'a> {
    Number(i64),
    Text(Cow<'a, str>),
}

impl Default for Amount<'_> {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Amount<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Amount<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number that fits bigint, or a size such as \"5GB\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Amount::Number(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                i64::try_from(value)
                    .map(Amount::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Amount::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Amount::Text(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}
