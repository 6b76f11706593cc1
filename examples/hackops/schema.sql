-- The schema of HackOps, a platform for hackathons: what a careful team writes before row-level security. Every table
-- of a tenant carries its tenant_id, and so does every key and every reference between them, so that no row can point
-- at, or collide with, another tenant's. There are no policies in it: `tenantctl rls setup` makes them.
--
-- Load it after `tenantctl db migrate`, as often as you like:  psql -f examples/hackops/schema.sql

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    IF to_regtype('public.event_status') IS NULL THEN
        CREATE TYPE public.event_status AS ENUM ('draft', 'open', 'running', 'judging', 'finished', 'cancelled');
    END IF;
    IF to_regtype('public.submission_status') IS NULL THEN
        CREATE TYPE public.submission_status AS ENUM ('draft', 'submitted', 'disqualified');
    END IF;
    IF to_regtype('public.sponsor_tier') IS NULL THEN
        CREATE TYPE public.sponsor_tier AS ENUM ('bronze', 'silver', 'gold', 'platinum');
    END IF;
END $$;

-- Reference data: the same for all tenants, who only read it.
CREATE TABLE IF NOT EXISTS public.countries (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z]{2}$'),
    name text NOT NULL UNIQUE
);
INSERT INTO public.countries (code, name) VALUES
    ('BR', 'Brazil'), ('DE', 'Germany'), ('FR', 'France'), ('IN', 'India'), ('JP', 'Japan'), ('KE', 'Kenya'),
    ('US', 'United States')
ON CONFLICT DO NOTHING;
DO $$ BEGIN PERFORM tenancy.share('public.countries'); END $$;

CREATE TABLE IF NOT EXISTS public.events (
    tenant_id  uuid NOT NULL REFERENCES tenancy.tenants,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    slug       text NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    title      text NOT NULL CHECK (title <> ''),
    status     public.event_status NOT NULL DEFAULT 'draft',
    country    text REFERENCES public.countries,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    period     tstzrange GENERATED ALWAYS AS (tstzrange(starts_at, ends_at)) STORED,
    max_team   smallint NOT NULL DEFAULT 5 CHECK (max_team BETWEEN 1 AND 50),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, slug),
    CHECK (ends_at > starts_at)
);
CREATE INDEX IF NOT EXISTS events_starts_at ON public.events (tenant_id, starts_at);

CREATE TABLE IF NOT EXISTS public.participants (
    tenant_id     uuid NOT NULL REFERENCES tenancy.tenants,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id      uuid NOT NULL,
    email         text NOT NULL CHECK (email = lower(email) AND email LIKE '%_@_%'),
    display_name  text NOT NULL CHECK (display_name <> ''),
    country       text REFERENCES public.countries,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, event_id, email),
    -- What a reference needs that carries the event besides the tenant.
    UNIQUE (tenant_id, event_id, id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES public.events (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS public.teams (
    tenant_id  uuid NOT NULL REFERENCES tenancy.tenants,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id   uuid NOT NULL,
    name       text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, event_id, id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES public.events (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX IF NOT EXISTS teams_name ON public.teams (tenant_id, event_id, lower(name));

CREATE TABLE IF NOT EXISTS public.team_members (
    tenant_id      uuid NOT NULL REFERENCES tenancy.tenants,
    event_id       uuid NOT NULL,
    team_id        uuid NOT NULL,
    participant_id uuid NOT NULL,
    is_captain     boolean NOT NULL DEFAULT false,
    joined_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, team_id, participant_id),
    -- One team for each participant, of the event they registered for.
    UNIQUE (tenant_id, event_id, participant_id),
    FOREIGN KEY (tenant_id, event_id, team_id) REFERENCES public.teams (tenant_id, event_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, event_id, participant_id)
        REFERENCES public.participants (tenant_id, event_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX IF NOT EXISTS team_members_one_captain ON public.team_members (tenant_id, team_id) WHERE is_captain;

CREATE TABLE IF NOT EXISTS public.submissions (
    tenant_id      uuid NOT NULL REFERENCES tenancy.tenants,
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id       uuid NOT NULL,
    team_id        uuid NOT NULL,
    title          text NOT NULL CHECK (title <> ''),
    summary        text NOT NULL DEFAULT '',
    repository_url text CHECK (repository_url ~ '^https?://'),
    status         public.submission_status NOT NULL DEFAULT 'draft',
    submitted_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, team_id),
    UNIQUE (tenant_id, event_id, id),
    FOREIGN KEY (tenant_id, event_id, team_id) REFERENCES public.teams (tenant_id, event_id, id) ON DELETE CASCADE,
    CHECK (status = 'draft' OR submitted_at IS NOT NULL)
);

CREATE TABLE IF NOT EXISTS public.judges (
    tenant_id  uuid NOT NULL REFERENCES tenancy.tenants,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id   uuid NOT NULL,
    email      text NOT NULL CHECK (email = lower(email) AND email LIKE '%_@_%'),
    name       text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, event_id, email),
    UNIQUE (tenant_id, event_id, id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES public.events (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS public.scores (
    tenant_id     uuid NOT NULL REFERENCES tenancy.tenants,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    event_id      uuid NOT NULL,
    submission_id uuid NOT NULL,
    judge_id      uuid NOT NULL,
    criterion     text NOT NULL CHECK (criterion IN ('idea', 'execution', 'design', 'pitch')),
    points        smallint NOT NULL CHECK (points BETWEEN 0 AND 10),
    weight        numeric(4, 2) NOT NULL DEFAULT 1 CHECK (weight > 0),
    weighted      numeric GENERATED ALWAYS AS (points * weight) STORED,
    comment       text,
    scored_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, submission_id, judge_id, criterion),
    -- A judge scores the submissions of their own event.
    FOREIGN KEY (tenant_id, event_id, submission_id)
        REFERENCES public.submissions (tenant_id, event_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, event_id, judge_id) REFERENCES public.judges (tenant_id, event_id, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS scores_judge ON public.scores (tenant_id, event_id, judge_id);

CREATE TABLE IF NOT EXISTS public.files (
    tenant_id     uuid NOT NULL REFERENCES tenancy.tenants,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    submission_id uuid,
    name          text NOT NULL CHECK (name <> ''),
    content_type  text NOT NULL DEFAULT 'application/octet-stream',
    size_bytes    bigint NOT NULL CHECK (size_bytes >= 0),
    sha256        bytea NOT NULL CHECK (octet_length(sha256) = 32),
    uploaded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, submission_id) REFERENCES public.submissions (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS files_submission ON public.files (tenant_id, submission_id);

CREATE TABLE IF NOT EXISTS public.sponsors (
    tenant_id    uuid NOT NULL REFERENCES tenancy.tenants,
    id           uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id     uuid NOT NULL,
    name         text NOT NULL CHECK (name <> ''),
    tier         public.sponsor_tier NOT NULL DEFAULT 'bronze',
    amount_cents bigint NOT NULL DEFAULT 0 CHECK (amount_cents >= 0),
    logo_file_id uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, event_id, name),
    FOREIGN KEY (tenant_id, event_id) REFERENCES public.events (tenant_id, id) ON DELETE CASCADE,
    -- Without the column list the tenant would be set to NULL too.
    FOREIGN KEY (tenant_id, logo_file_id) REFERENCES public.files (tenant_id, id) ON DELETE SET NULL (logo_file_id)
);
CREATE INDEX IF NOT EXISTS sponsors_logo ON public.sponsors (tenant_id, logo_file_id);

COMMIT;
