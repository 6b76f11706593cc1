//! A platform such as grows over years, with something of everything: hardened, it leaves verification nothing to warn of.

use crate::common::Database;

const PLATFORM: &str = r#"
    CREATE EXTENSION btree_gist;
    CREATE EXTENSION citext;
    CREATE SCHEMA shop;
    CREATE SCHEMA "Acc ounts";
    CREATE TYPE shop.state AS ENUM ('new', 'paid');
    CREATE DOMAIN shop.code AS text CHECK (VALUE ~ '^[A-Z]+$');
    CREATE DOMAIN shop.tenant AS uuid;
    CREATE TABLE shop.currency (code char(3) PRIMARY KEY, name text UNIQUE NOT NULL);
    CREATE TABLE shop.member (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, email citext NOT NULL UNIQUE, manager uuid REFERENCES shop.member ON DELETE SET NULL, nick text, UNIQUE (nick, email));
    CREATE UNIQUE INDEX member_lower ON shop.member (lower(nick)) WHERE nick IS NOT NULL;
    CREATE TABLE shop.product (tenant_id uuid NOT NULL, sku shop.code PRIMARY KEY, title text NOT NULL, price numeric(12,2) NOT NULL CHECK (price >= 0), gross numeric GENERATED ALWAYS AS (price * 1.19) STORED, currency char(3) NOT NULL REFERENCES shop.currency, state shop.state NOT NULL DEFAULT 'new');
    CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid, number text NOT NULL UNIQUE DEFERRABLE, member uuid REFERENCES shop.member ON DELETE CASCADE, state shop.state, slug text, UNIQUE (slug) INCLUDE (state));
    CREATE TABLE shop.line (order_number text NOT NULL, pos int NOT NULL, tenant_id uuid NOT NULL, "order" bigint NOT NULL REFERENCES shop.orders ON DELETE CASCADE, sku shop.code NOT NULL REFERENCES shop.product ON UPDATE CASCADE, PRIMARY KEY ("order", pos));
    CREATE TABLE shop.line_note (id serial PRIMARY KEY, tenant_id uuid NOT NULL, "order" bigint, pos int, body text, FOREIGN KEY ("order", pos) REFERENCES shop.line ON DELETE SET NULL (pos));
    CREATE TABLE shop.event (tenant_id uuid NOT NULL, at timestamptz NOT NULL, name text NOT NULL, payload jsonb, PRIMARY KEY (at, name)) PARTITION BY RANGE (at);
    CREATE TABLE shop.event_1 PARTITION OF shop.event FOR VALUES FROM ('2026-01-01') TO ('2026-07-01') PARTITION BY LIST (name);
    CREATE TABLE shop.event_1_a PARTITION OF shop.event_1 FOR VALUES IN ('a');
    CREATE TABLE shop.event_1_x PARTITION OF shop.event_1 DEFAULT;
    CREATE TABLE shop.event_x PARTITION OF shop.event DEFAULT;
    CREATE TABLE shop.by_tenant (tenant_id uuid NOT NULL, k text NOT NULL, v text, PRIMARY KEY (tenant_id, k)) PARTITION BY HASH (tenant_id);
    CREATE TABLE shop.by_tenant_0 PARTITION OF shop.by_tenant FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE shop.by_tenant_1 PARTITION OF shop.by_tenant FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE shop.animal (id int PRIMARY KEY, tenant_id uuid NOT NULL, chip text UNIQUE);
    CREATE TABLE shop.dog (breed text, UNIQUE (chip), tag text UNIQUE) INHERITS (shop.animal);
    CREATE TABLE "Acc ounts"."Roo""m" (tenant_id shop.tenant NOT NULL, "na me" text PRIMARY KEY, floor int);
    CREATE TABLE "Acc ounts".booking (id int PRIMARY KEY, tenant_id shop.tenant NOT NULL, room text NOT NULL REFERENCES "Acc ounts"."Roo""m" ON DELETE CASCADE, during tstzrange NOT NULL, EXCLUDE USING gist (room WITH =, during WITH &&), EXCLUDE USING gist (during WITH &&) WHERE (room = 'all') DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE shop.setting (tenant_id uuid PRIMARY KEY, subdomain text UNIQUE, theme text);
    CREATE TABLE shop.api_key (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, token text UNIQUE NOT NULL, name text);
    CREATE TABLE shop.device (tenant_id uuid NOT NULL, serial text NOT NULL, name varchar(20), PRIMARY KEY (serial)); 
    CREATE SEQUENCE shop.ticket_number;
    CREATE TABLE shop.ticket (id bigint PRIMARY KEY DEFAULT nextval('shop.ticket_number'), tenant_id uuid NOT NULL, device text REFERENCES shop.device, closed bool NOT NULL DEFAULT false, subject text);
    CREATE UNIQUE INDEX one_open ON shop.ticket (device) WHERE NOT closed;
    ALTER TABLE shop.device REPLICA IDENTITY FULL;
    CREATE VIEW shop.open_ticket AS SELECT t.id, t.subject, d.name FROM shop.ticket t JOIN shop.device d ON d.serial = t.device AND d.tenant_id = t.tenant_id WHERE NOT t.closed;
    CREATE VIEW shop.counts AS SELECT state, count(*) FROM shop.orders GROUP BY state;
    CREATE MATERIALIZED VIEW shop.totals AS SELECT tenant_id, count(*) FROM shop.orders GROUP BY tenant_id;
    CREATE FUNCTION shop.order_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM shop.orders';
    CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.subject := coalesce(NEW.subject, ''); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON shop.ticket FOR EACH ROW EXECUTE FUNCTION shop.touch();
    CREATE PROCEDURE shop.close(t bigint) LANGUAGE sql AS 'UPDATE shop.ticket SET closed = true WHERE id = t';
    CREATE INDEX ON shop.ticket USING gin (to_tsvector('simple', subject));"#;

#[tokio::test]
async fn a_grown_platform_is_left_without_errors_and_warnings() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Other", "--plan", "free"]).expect(0);
    db.sql(PLATFORM);
    let arguments = ["rls", "setup", "--harden", "--shared", "shop.currency", "--on-new-table", "protect"];
    db.tenantctl(&arguments).expect(0);
    let login = db.app_login();
    let report = db.tenantctl(&["rls", "verify", "--role", &login, "-o", "json"]).expect(0).json();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["severity"] == "note"), "{report:#}");
    assert_eq!(report["not_proven"], serde_json::json!([]), "{report:#}");
    let again = db.json(&arguments);
    let changed: Vec<_> =
        again["tables"].as_array().unwrap().iter().filter(|t| t["outcome"] != "unchanged").collect();
    assert!(changed.is_empty(), "{changed:?}");
}
