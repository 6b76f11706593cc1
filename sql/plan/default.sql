SELECT key FROM tenancy.plans WHERE is_default
