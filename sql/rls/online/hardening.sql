-- What a tenant's table, or a view over such tables, lacks of hardening. $2: of a table that is not under isolation yet, which
-- takes from these roles all but what they need.
SELECT h.action AS "action!", h.statement, h.note FROM tenancy.hardening($1::oid::regclass) h
 WHERE NOT ($2::boolean AND h.action = 'revoke' AND EXISTS (
        SELECT FROM unnest(ARRAY['PUBLIC', quote_ident(tenancy.role_name('app')), quote_ident(tenancy.role_name('admin'))]) r
         WHERE right(h.statement, length(' FROM ' || r)) = ' FROM ' || r))
 ORDER BY h."position"
