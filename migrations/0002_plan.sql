-- What a tenant may use: metrics that are counted, features that are on or off, and the plans that bundle them.

CREATE TABLE tenancy.metrics (
    key         text PRIMARY KEY CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    name        text NOT NULL,
    unit        text NOT NULL CHECK (unit IN ('count', 'bytes')),
    -- A gauge goes up and down (events that exist); a counter only grows within its period (requests served).
    kind        text NOT NULL CHECK (kind IN ('gauge', 'counter')),
    reset       text NOT NULL DEFAULT 'never' CHECK (reset IN ('never', 'daily', 'monthly')),
    -- Where the figure comes from: reported by callers, or counted by the control plane from its own memberships.
    source      text NOT NULL DEFAULT 'reported' CHECK (source IN ('reported', 'memberships')),
    position    int  NOT NULL DEFAULT 0,
    CHECK (kind = 'counter' OR reset = 'never')
);
COMMENT ON TABLE tenancy.metrics IS 'What is counted against plan limits';

CREATE TABLE tenancy.features (
    key         text PRIMARY KEY CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    name        text NOT NULL,
    position    int  NOT NULL DEFAULT 0
);
COMMENT ON TABLE tenancy.features IS 'What a plan can switch on';

CREATE TABLE tenancy.plans (
    key         text PRIMARY KEY CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    name        text NOT NULL,
    position    int  NOT NULL DEFAULT 0,
    -- The plan of a tenant that is created without naming one.
    is_default  boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE tenancy.plans IS 'Subscription plans, smallest first by position';
CREATE UNIQUE INDEX plans_one_default ON tenancy.plans (is_default) WHERE is_default;

CREATE TABLE tenancy.plan_limits (
    plan        text NOT NULL REFERENCES tenancy.plans ON UPDATE CASCADE ON DELETE CASCADE,
    metric      text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    limit_value bigint CHECK (limit_value >= 0),
    PRIMARY KEY (plan, metric)
);
COMMENT ON COLUMN tenancy.plan_limits.limit_value IS
    'Most that a tenant on the plan may use, in the metric''s unit; NULL for unlimited';

CREATE TABLE tenancy.plan_features (
    plan        text NOT NULL REFERENCES tenancy.plans ON UPDATE CASCADE ON DELETE CASCADE,
    feature     text NOT NULL REFERENCES tenancy.features ON UPDATE CASCADE ON DELETE CASCADE,
    PRIMARY KEY (plan, feature)
);

-- The catalogue is the same for every tenant: the application role may read it.
DO $$
BEGIN
    EXECUTE format('GRANT SELECT ON tenancy.metrics, tenancy.features, tenancy.plans, tenancy.plan_limits,
                    tenancy.plan_features TO %I', tenancy.role_name('app'));
END $$;
