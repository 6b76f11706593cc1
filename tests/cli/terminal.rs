//! What a person at a terminal sees and is asked: `script` of util-linux plays the terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::common::Database;

/// Longer than anything here takes on any machine: a test that hangs ends with what it has seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command at a terminal.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(db: &Database, variables: &[(&str, &str)], arguments: &str) -> Self {
        let line = format!("exec '{}' {arguments}", env!("CARGO_BIN_EXE_tenantctl"));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh").env("TERM", "xterm");
        command.env("HOME", "/nonexistent").env("TENANTCTL_URL", db.url()).envs(variables.iter().copied());
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script =
            command.spawn().expect("script, from util-linux (bsdutils on Debian), has to be installed");
        let (keyboard, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { script, keyboard, screen, seen: String::new() }
    }

    /// Waits for a text, then types.
    fn answer(&mut self, prompt: &str, keys: &str) -> &mut Self {
        while !self.seen.contains(prompt) {
            let more = self.screen.recv_timeout(PATIENCE);
            let more = more.unwrap_or_else(|_| panic!("waited for {prompt:?}, saw {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        // What comes next is looked for behind this prompt.
        let end = self.seen.find(prompt).unwrap() + prompt.len();
        self.seen.drain(..end);
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
        self
    }

    /// Presses Ctrl-C, once: it counts whether the prompt reads keys already or not. (`script` does not end while
    /// there are keys that nobody takes.)
    fn interrupt(mut self) -> (String, Option<i32>) {
        self.keyboard.write_all(b"\x03").unwrap();
        self.end()
    }

    /// The rest of what it shows, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        loop {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.push_str(&String::from_utf8_lossy(&more)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.script.kill().unwrap();
                    panic!("it does not end: {:?}", self.seen);
                }
            }
        }
        (self.seen, self.script.wait().unwrap().code())
    }
}

#[tokio::test]
async fn a_terminal_gets_boxes_and_colour() {
    let db = Database::with_acme("free").await;
    let (screen, code) = Terminal::open(&db, &[], "tenant list").end();
    assert_eq!(code, Some(0));
    assert!(screen.contains('│') && screen.contains("acme"), "{screen}");
    let (screen, code) = Terminal::open(&db, &[], "tenant show nobody").end();
    assert_eq!(code, Some(3));
    assert!(screen.contains("\u{1b}[1;31merror:\u{1b}[0m tenant"), "{screen:?}");
    let plain: [(&[(&str, &str)], &str); 3] =
        [(&[("NO_COLOR", "1")], ""), (&[("CLICOLOR", "0")], ""), (&[], "--color=never")];
    for (variables, flag) in plain {
        let (screen, _) = Terminal::open(&db, variables, &format!("tenant show nobody {flag}")).end();
        assert!(screen.starts_with("error: tenant"), "{screen:?}");
    }
}

#[tokio::test]
async fn what_create_is_not_told_it_asks_for() {
    let db = Database::migrated().await;
    let mut terminal = Terminal::open(&db, &[], "tenant create");
    terminal.answer("Name of the tenant", "Acme University\r").answer("Slug", "\r");
    // The next plan but one.
    terminal.answer("Plan", "\u{1b}[B\u{1b}[B\r");
    terminal.answer("Contact e-mail", "\r").answer("E-mail of the owner", "ada@acme.edu\r");
    let (screen, code) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(
        screen.contains("created tenant acme-university on plan professional, owned by ada@acme.edu"),
        "{screen}"
    );
    assert_eq!(
        db.sql("SELECT slug, name, plan, contact_email IS NULL FROM tenancy.tenants"),
        "acme-university|Acme University|professional|t"
    );
    // Told enough, it asks for nothing.
    let (screen, code) = Terminal::open(&db, &[], "tenant create Beta").end();
    assert_eq!(code, Some(0), "{screen}");

    let mut terminal = Terminal::open(&db, &[], "user add beta");
    terminal.answer("E-mail of the user", "bob@beta.org\r").answer("Role", "\r");
    assert_eq!(terminal.end().1, Some(0));
    assert_eq!(db.tenantctl(&["user", "list", "beta", "--role", "member", "-q"]).stdout, "bob@beta.org\n");

    let (screen, code) = Terminal::open(&db, &[], "tenant create --no-input").end();
    assert_eq!(code, Some(2), "{screen}");
}

#[tokio::test]
async fn a_destruction_is_shown_and_asked_about() {
    let db = Database::with_acme("starter").await;
    let before = db.dump();
    let question = "delete tenant acme (Acme, 0 users, plan starter; its data is kept for 30 days)?";
    // The default is no.
    for keys in ["n", "\r"] {
        let mut terminal = Terminal::open(&db, &[], "tenant delete acme");
        terminal.answer(question, keys);
        let (screen, code) = terminal.end();
        assert_eq!(code, Some(10), "{screen}");
        assert!(screen.contains("declined"), "{screen}");
    }
    let (screen, code) = Terminal::open(&db, &[], "tenant delete acme --no-input").end();
    assert_eq!(code, Some(10), "{screen}");
    assert_eq!(db.dump(), before);
    let mut terminal = Terminal::open(&db, &[], "tenant delete acme");
    terminal.answer(question, "y");
    assert_eq!(terminal.end().1, Some(0));
    assert_eq!(db.sql("SELECT status FROM tenancy.tenants"), "deleted");
}

#[tokio::test]
async fn ctrl_c_at_a_prompt_interrupts_and_gives_the_cursor_back() {
    let db = Database::with_acme("free").await;
    let before = db.dump();
    for (arguments, prompt) in [
        ("tenant create", "Name of the tenant"),
        ("tenant delete acme", "30 days)?"),
        ("user add acme a@acme.org", "Role"),
    ] {
        let mut terminal = Terminal::open(&db, &[], arguments);
        terminal.answer(prompt, "");
        let (screen, code) = terminal.interrupt();
        assert_eq!(code, Some(130), "{arguments}: {screen:?}");
        let hidden = screen.rfind("\u{1b}[?25l");
        let shown = screen.rfind("\u{1b}[?25h");
        assert!(shown.is_some() && shown >= hidden, "{arguments}: {screen:?}");
    }
    assert_eq!(db.dump(), before);
}
