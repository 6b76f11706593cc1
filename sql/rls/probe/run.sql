DO $probe$
-- Runs the items in the setting tenancy.probe_items, each in a subtransaction of its own, and leaves what came of them
-- in tenancy.probe_results. One round trip runs many attacks; nothing but kept rows survives its item.
-- An item: try (statements, the first that is not refused counts), returns (whether they return a value), keep, prep
-- (statements that clear the way, may fail), role and set (who runs it in which settings), oracle (a statement that is
-- run after a statement that touched rows), orole and oset (who runs that).
DECLARE
    items   jsonb := pg_catalog.current_setting('tenancy.probe_items')::jsonb;
    home    text  := pg_catalog.current_setting('role');
    results jsonb[] := '{}';
    item    jsonb;
    attempt record;
    part    record;
    refused jsonb;
    prepped boolean;
    done    boolean;
    halted  boolean := false;
    touched bigint;
    answer  text;
    seen    text;
    before  text;
    code    text;
    words   text;
    cons    text;
    col     text;
BEGIN
    FOR item IN SELECT e.value FROM pg_catalog.jsonb_array_elements(items) AS e LOOP
        refused := '[]';
        done := false;
        FOR attempt IN SELECT e.value, e.ordinality FROM pg_catalog.jsonb_array_elements_text(item -> 'try')
                         WITH ORDINALITY AS e LOOP
            touched := 0;
            answer := NULL;
            seen := NULL;
            before := NULL;
            prepped := true;
            BEGIN
                FOR part IN SELECT e.value FROM pg_catalog.jsonb_array_elements_text(item -> 'prep') AS e LOOP
                    BEGIN
                        EXECUTE part.value;
                    EXCEPTION WHEN OTHERS THEN
                        prepped := false;
                    END;
                END LOOP;
                -- What the way was cleared of may have moved the rows that the oracle looks at.
                IF pg_catalog.jsonb_array_length(item -> 'prep') > 0 AND item ->> 'oracle' IS NOT NULL THEN
                    FOR part IN SELECT e.key, e.value FROM pg_catalog.jsonb_each_text(item -> 'oset') AS e LOOP
                        PERFORM pg_catalog.set_config(part.key, part.value, true);
                    END LOOP;
                    IF item ->> 'orole' IS NOT NULL THEN
                        PERFORM pg_catalog.set_config('role', item ->> 'orole', true);
                    END IF;
                    EXECUTE item ->> 'oracle' INTO before;
                    PERFORM pg_catalog.set_config('role', home, true);
                END IF;
                FOR part IN SELECT e.key, e.value FROM pg_catalog.jsonb_each_text(item -> 'set') AS e LOOP
                    PERFORM pg_catalog.set_config(part.key, part.value, true);
                END LOOP;
                IF item ->> 'role' IS NOT NULL THEN
                    PERFORM pg_catalog.set_config('role', item ->> 'role', true);
                END IF;
                IF (item ->> 'returns')::boolean THEN
                    EXECUTE attempt.value INTO answer;
                    IF answer IS NOT NULL THEN touched := 1; END IF;
                ELSE
                    EXECUTE attempt.value;
                    GET DIAGNOSTICS touched = ROW_COUNT;
                END IF;
                PERFORM pg_catalog.set_config('role', home, true);
                IF (item ->> 'keep')::boolean THEN
                    IF answer IS NULL THEN
                        RAISE EXCEPTION 'no row was made' USING ERRCODE = 'TNP01';
                    END IF;
                    done := true;
                ELSE
                    IF (touched > 0 OR (item ->> 'always')::boolean) AND item ->> 'oracle' IS NOT NULL THEN
                        FOR part IN SELECT e.key, e.value FROM pg_catalog.jsonb_each_text(item -> 'oset') AS e LOOP
                            PERFORM pg_catalog.set_config(part.key, part.value, true);
                        END LOOP;
                        IF item ->> 'orole' IS NOT NULL THEN
                            PERFORM pg_catalog.set_config('role', item ->> 'orole', true);
                        END IF;
                        EXECUTE item ->> 'oracle' INTO seen;
                        PERFORM pg_catalog.set_config('role', home, true);
                    END IF;
                    RAISE EXCEPTION USING ERRCODE = 'TNP00';
                END IF;
            EXCEPTION
                WHEN query_canceled THEN
                    GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
                    refused := refused || pg_catalog.jsonb_build_object(
                        'code', '57014', 'message', words, 'constraint', '', 'column', '');
                    halted := true;
                WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, cons = CONSTRAINT_NAME,
                        col = COLUMN_NAME;
                    IF code = 'TNP00' THEN
                        done := true;
                    ELSE
                        refused := refused || pg_catalog.jsonb_build_object(
                            'code', code, 'message', words, 'constraint', cons, 'column', col);
                    END IF;
            END;
            EXIT WHEN done OR halted OR (code = '42501' AND NOT (item ->> 'keep')::boolean);
        END LOOP;
        code := NULL;
        -- Appending to one jsonb would copy all of it, each time.
        results := pg_catalog.array_append(results, pg_catalog.jsonb_build_object(
            'attempt', CASE WHEN done THEN attempt.ordinality - 1 END, 'touched', touched, 'answer', answer,
            'seen', seen, 'before', before, 'prepped', prepped, 'refused', refused));
        EXIT WHEN halted;
    END LOOP;
    PERFORM pg_catalog.set_config('tenancy.probe_results', pg_catalog.to_jsonb(results)::text, true);
END
$probe$
