-- Runs the first of the statements that is not refused, as the role in the settings, in a subtransaction that is rolled
-- back. Gives what it returned; with a question whether the answer to it, as whoever runs the tests, is another one then.
CREATE FUNCTION pg_temp.attempt(p_role text, p_settings jsonb, p_before text[], p_statements text[], p_question text)
RETURNS text LANGUAGE plpgsql AS $attempt$
DECLARE
    home      text := pg_catalog.current_setting('role');
    part      record;
    statement text;
    earlier   text;
    later     text;
    answer    text;
BEGIN
    FOREACH statement IN ARRAY p_statements LOOP
        BEGIN
            FOR part IN SELECT value FROM pg_catalog.unnest(p_before) AS value LOOP
                BEGIN
                    EXECUTE part.value;
                EXCEPTION WHEN OTHERS THEN
                    NULL; -- It clears the way where it can.
                END;
            END LOOP;
            IF p_question IS NOT NULL THEN
                EXECUTE p_question INTO earlier;
            END IF;
            FOR part IN SELECT key, value FROM pg_catalog.jsonb_each_text(p_settings) LOOP
                PERFORM pg_catalog.set_config(part.key, part.value, true);
            END LOOP;
            PERFORM pg_catalog.set_config('role', p_role, true);
            IF p_question IS NULL THEN
                EXECUTE statement INTO answer;
            ELSE
                EXECUTE statement;
                PERFORM pg_catalog.set_config('role', home, true);
                EXECUTE p_question INTO later;
                answer := CASE WHEN later IS DISTINCT FROM earlier THEN 'changed' ELSE 'unchanged' END;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'TNP00';
        EXCEPTION
            WHEN SQLSTATE 'TNP00' THEN
                RETURN answer;
            WHEN OTHERS THEN
                NULL; -- Refused: the next one.
        END;
    END LOOP;
    RETURN 'refused';
END
$attempt$;
