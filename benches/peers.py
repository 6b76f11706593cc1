#!/usr/bin/env python3
"""Plants each leak of tests/corpus into a safe platform and asks every verifier about it, side by side.

    benches/peers.py postgresql://postgres@localhost/postgres?host=/run/postgresql

The server must be one to throw away: databases and roles are made and dropped, and some of the leaks bypass everything.
Programs: `tenantctl` (TENANTCTL, default target/release/tenantctl), and where they are there, `pgrls`, `rlsgrid` and
`rlsautotest` from PyPI (on PATH, or in PEERS), and the query file of supabase/splinter (SPLINTER=splinter.sql).

A tool finds a leak where it says something, as an error or a warning, that it does not say of the platform without the
leak. Tools made for Supabase get the platform in their own form as well (roles `authenticated` and `anon`, the tenant in
`auth.jwt()`), and what they find in either form counts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
SETTING = "nullif(current_setting('app.tenant_id', true), '')::uuid"
SUPABASE = """
CREATE ROLE anon NOLOGIN; CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text);
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT (auth.jwt() ->> 'sub')::uuid $$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$ SELECT auth.jwt() ->> 'role' $$;
"""


def entries(name, kind):
    """The entries of a file of the corpus, as (name, SQL)."""
    found = []
    for line in (CORPUS / name).read_text().splitlines():
        if line.startswith(f"-- {kind} "):
            found.append((line.removeprefix(f"-- {kind} ").split(":")[0], []))
        elif found:
            found[-1][1].append(line)
    return [(name, "\n".join(lines)) for name, lines in found]


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


class Platform:
    """A copy of the corpus' platform with one entry planted."""

    def __init__(self, server, jwt, sql):
        parts = urlsplit(server)
        self.server, self.jwt = server, jwt
        self.url = urlunsplit((parts.scheme, parts.netloc, "/peers", parts.query, ""))
        prelude = SUPABASE if jwt else ""
        # What a run that was cut short left is in the way.
        self.drop()
        self.psql(self.server, "CREATE DATABASE peers")
        self.psql(self.url, *([prelude] if jwt else []), self.named((CORPUS / "base.sql").read_text()), self.named(sql))

    def named(self, text):
        if self.jwt:
            text = text.replace(SETTING, "((auth.jwt() ->> 'tenant_id')::uuid)")
            text = re.sub(r"@app\b", "authenticated", re.sub(r"@login\b", "authenticator", text))
        return text.replace("@", "corpus_")

    @staticmethod
    def psql(url, *scripts):
        for script in scripts:
            done = run("psql", "-qXv", "ON_ERROR_STOP=1", url, input=script)
            if done.returncode:
                raise RuntimeError(f"{done.stderr}\n{script}")

    def drop(self):
        self.psql(self.server, "DROP DATABASE IF EXISTS peers")
        names = "rolname ~ '^corpus_' OR rolname IN ('anon', 'authenticated', 'authenticator', 'service_role')"
        self.psql(self.server, f"DO $$ DECLARE n text; BEGIN FOR n IN SELECT rolname FROM pg_roles WHERE {names} LOOP "
                               "EXECUTE format('DROP ROLE %I', n); END LOOP; END $$")


def tenantctl(platform):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as contract:
        contract.write(platform.named((CORPUS / "contract.yaml").read_text()))
        contract.flush()
        program = os.environ.get("TENANTCTL", str(ROOT / "target/release/tenantctl"))
        done = run(program, "--url", platform.url, "rls", "verify", "--contract", contract.name, "-o", "json")
    report = json.loads(done.stdout)
    return {(f["check"], f["object"]) for f in report["findings"] if f["severity"] != "note"}


def pgrls_lint(platform):
    done = run("pgrls", "lint", "--database-url", platform.url, "--schemas", "public,app", "--format", "json")
    return {(v["rule_id"], v["location"]) for v in json.loads(done.stdout)["violations"] if v["severity"] != "info"}


def pgrls(platform):
    found = pgrls_lint(platform)
    for mode in ("anon", "cross-tenant", "write", "escalation", "reachability"):
        done = run("pgrls", "verify", "--database-url", platform.url, "--schemas", "public,app", "--mode", mode,
                   "--format", "json")
        if done.stdout.startswith("{"):
            found |= {(mode, t["table"]) for t in json.loads(done.stdout)["tables"] if t["verdict"] == "leak"}
    return found


def splinter(platform):
    done = run("psql", "-qXAtF", "\x1f", platform.url, "-c", "SET pgrst.db_schemas = 'public,app'",
               "-f", os.environ["SPLINTER"])
    rows = (row.split("\x1f") for row in done.stdout.splitlines())
    return {(row[0], row[-1]) for row in rows if len(row) > 3 and row[2] in ("ERROR", "WARN")}


def rlsgrid(platform):
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "DATABASE_URL": platform.url}
        run("rlsgrid", "init", "--from-db", cwd=directory, env=environment)
        done = run("rlsgrid", "check", "--json", cwd=directory, env=environment)
    if not done.stdout.startswith("{"):
        return set()
    breaches = json.loads(done.stdout)["breaches"]
    return {tuple(str(b.get(key)) for key in ("role", "table", "op", "kind")) for b in breaches}


def rlsautotest(platform):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        run("rlsautotest", "--schema", "public", "--db-url", platform.url, "--report-json", out.name, "--report",
            "--no-fail")
        text = Path(out.name).read_text()
    if not text:
        return set()
    report = json.loads(text)
    found = {("surface", json.dumps(surface, sort_keys=True)) for surface in report["bypass_surfaces"]}
    for table in report["tables"]:
        leaks = [leak for key in ("leak_cells", "transition_leaks", "multi_findings") for leak in table.get(key, [])]
        found |= {(table["table"], json.dumps(leak)) for leak in leaks}
        found |= {(table["table"], "exposed")} if table.get("exposed") else set()
        found |= {(table["table"], footgun) for footgun in table.get("footguns", []) if "stands in" not in footgun}
    return found


def tools():
    os.environ["PATH"] = f"{os.environ.get('PEERS', '')}:{os.environ['PATH']}"
    yield "tenantctl", tenantctl, (False,)
    if shutil.which("pgrls"):
        yield "pgrls lint", pgrls_lint, (False, True)
        yield "pgrls lint, verify", pgrls, (False, True)
    if os.environ.get("SPLINTER"):
        yield "splinter", splinter, (False, True)
    if shutil.which("rlsgrid"):
        yield "rlsgrid", rlsgrid, (False, True)
    if shutil.which("rlsautotest"):
        yield "rlsautotest", rlsautotest, (False, True)


def main():
    server = sys.argv[1]
    columns = list(tools())
    leaks, safe = entries("leaks.sql", "leak"), entries("safe.sql", "safe")
    flagged = {name: set() for name, _, _ in columns}
    for jwt in (False, True):
        base = {}
        for entry, sql in [("", ""), *leaks, *safe]:
            platform = Platform(server, jwt, sql)
            for name, tool, shapes in columns:
                if jwt not in shapes:
                    continue
                try:
                    said = tool(platform)
                except subprocess.TimeoutExpired as late:
                    said = base.get(name, set())
                    print(f"{name} did not answer within {late.timeout} s: {entry}", file=sys.stderr)
                if not entry:
                    base[name] = said
                elif said - base[name]:
                    flagged[name].add(entry)
            platform.drop()
            print(f"{'claims' if jwt else 'setting'}: {entry or 'nothing planted'}", file=sys.stderr)
    print("| planted | " + " | ".join(name for name, _, _ in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for entry, _ in leaks:
        print(f"| {entry} | " + " | ".join("found" if entry in flagged[name] else "" for name, _, _ in columns) + " |")
    for title, of in ((f"found of {len(leaks)}", leaks), (f"falsely flagged of {len(safe)}", safe)):
        counts = (str(sum(entry in flagged[name] for entry, _ in of)) for name, _, _ in columns)
        print(f"| {title} | " + " | ".join(counts) + " |")
    for name, _, _ in columns:
        wrong = [entry for entry, _ in safe if entry in flagged[name]]
        if wrong:
            print(f"\n{name} flags: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
