SELECT ords, outcomes, useds AS "useds: Vec<Option<i64>>", limits AS "limits: Vec<Option<i64>>",
       answered AS "answered: Vec<Option<OffsetDateTime>>"
  FROM tenancy.track_usages($1, $2, $3, $4, $5, $6, $7, $8)
