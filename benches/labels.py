#!/usr/bin/env python3
"""Holds supabase/splinter's own tests against `rls verify`: at each place where one of its test files asks for a lint, the
schema as it is there is put into a database of its own, and both are asked which objects of it are amiss.

    benches/labels.py CHECKOUT-OF-SPLINTER postgresql://postgres@localhost/postgres?host=/run/postgresql

The server must be one to throw away. TENANTCTL names the program (default target/release/tenantctl). The schemas know no
tenants: a row's owner stands for its tenant (user_id where there is one, else the first column).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent
# Lints about performance, names and extensions have nothing to do with isolation.
ABOUT = {"0002", "0007", "0008", "0010", "0011", "0013", "0015", "0016", "0017", "0023", "0024", "0028", "0029"}


def statements(text):
    """The statements of a script, comments taken out; bodies in dollar quotes stay whole."""
    text = re.sub(r"--[^\n]*", "", text)
    found, start, at, quote = [], 0, 0, None
    for match in re.finditer(r"\$\w*\$|'|;", text):
        token = match.group()
        if quote:
            quote = None if token == quote else quote
        elif token == ";":
            found.append(text[start:match.start()].strip())
            start = match.end()
        else:
            quote = token
    return [statement for statement in found if statement]


def states(text):
    """The schema at each lint: (lint, statements so far)."""
    so_far, saved = [], {}
    for statement in statements(text):
        word = statement.lower().split()
        if word[0] in ("begin", "commit", "set") or statement.lower() == "rollback":
            continue
        if word[0] == "savepoint":
            saved[word[1]] = len(so_far)
        elif word[:2] == ["rollback", "to"]:
            del so_far[saved[word[-1]]:]
        elif (lint := re.search(r'lint\."(\w+)"', statement)):
            yield lint[1], list(so_far)
        elif word[:2] == ["create", "role"]:
            # Roles are the server's, and outlive the database.
            so_far.append(f"DO $x$ BEGIN {statement}; EXCEPTION WHEN duplicate_object THEN NULL; END $x$")
        elif word[0] != "select":
            so_far.append(statement)


def psql(url, *scripts, check=True):
    out = ""
    for script in scripts:
        done = subprocess.run(["psql", "-qXAtv", "ON_ERROR_STOP=1", url], input=script, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        out += done.stdout
    return out


def main():
    checkout, server = Path(sys.argv[1]), sys.argv[2]
    parts = urlsplit(server)
    url = urlunsplit((parts.scheme, parts.netloc, "/labels", parts.query, ""))
    program = os.environ.get("TENANTCTL", str(ROOT / "target/release/tenantctl"))
    fixtures = (checkout / "test/fixtures.sql").read_text()
    fixtures = fixtures.replace("create role anon;", "").replace("create role authenticated;", "")
    psql(server, "DO $$ BEGIN CREATE ROLE anon; CREATE ROLE authenticated; "
                 "EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    lints = {path.stem: path.read_text() for path in (checkout / "lints").glob("*.sql")}
    both = theirs_only = 0
    for file in sorted((checkout / "test/sql").glob("0*.sql")):
        if file.stem[:4] not in ABOUT:
            continue
        seen = set()
        for lint, schema in states(file.read_text()):
            key = (lint, "\n".join(schema))
            if key in seen or lint not in lints:
                continue
            seen.add(key)
            psql(server, "DROP DATABASE IF EXISTS labels", "CREATE DATABASE labels")
            body = ";\n".join(schema) + ";"
            try:
                psql(url, fixtures, body, lints[lint])
            except RuntimeError as error:
                print(f"{lint}: not run: {' '.join(line for line in str(error).splitlines() if 'ERROR' in line)}")
                continue
            rows = psql(url, f"SET pgrst.db_schemas = 'public'; SELECT concat_ws('.', metadata->>'schema', metadata->>'name') "
                             f"FROM lint.\"{lint}\"").splitlines()
            theirs = set(rows) - {''}
            tables = json.loads(psql(url, """
                SELECT coalesce(json_object_agg(format('%I.%I', n.nspname, c.relname), (
                    SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
                     ORDER BY attname <> 'user_id', attnum LIMIT 1)), '{}')
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_'
                   AND n.nspname NOT IN ('information_schema', 'lint', 'extensions')"""))
            contract = {"tenant_column": "tenant_id", "tables": tables, "app_roles": ["anon", "authenticated"],
                        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"sub\": \"{user}\"}', true)"]}}
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as out:
                out.write(json.dumps(contract))
                out.flush()
                done = subprocess.run([program, "--url", url, "rls", "verify", "--contract", out.name, "-o", "json"],
                                      capture_output=True, text=True)
            if not done.stdout:
                print(f"{lint}: rls verify: {done.stderr.splitlines()[-1] if done.stderr else done.returncode}")
                continue
            report = json.loads(done.stdout)
            said = {}
            for finding in report["findings"]:
                if finding["severity"] != "note":
                    said.setdefault(finding["object"].split("(")[0], set()).add(finding["check"])
            objects = {o for o in said if o.startswith("public.")}
            both += len(theirs & objects)
            theirs_only += len(theirs - objects)
            print(f"{lint} [{len(seen)}]: theirs {sorted(theirs)}; ours {[(o, sorted(said[o])) for o in sorted(objects)]}")
    print(f"{both + theirs_only} objects amiss by splinter's lints; {both} of them by rls verify")


if __name__ == "__main__":
    main()
