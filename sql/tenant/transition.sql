UPDATE tenancy.tenants
   SET status = $2,
       suspended_at = CASE $2 WHEN 'active' THEN NULL WHEN 'suspended' THEN now() ELSE suspended_at END,
       deleted_at = CASE $2 WHEN 'deleted' THEN now() END,
       purge_after = CASE $2 WHEN 'deleted' THEN now() + make_interval(secs => $3) END,
       updated_at = now()
 WHERE id = $1
