# Makes a whole cluster in $DATA: initdb, our settings, the database. Arguments go to initdb.
umask 077
initialise() {
    # Without a C.UTF-8 (old macOS, musl) plain C still stores UTF-8; only upper() and lower() stay with ASCII.
    case $LOCALE in
    libc)
        locale=C
        [ "$(LC_ALL=C.UTF-8 locale charmap 2>/dev/null)" = UTF-8 ] && locale=C.UTF-8
        set -- --locale="$locale" --locale-provider=libc "$@"
        ;;
    builtin) set -- --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 "$@" ;;
    esac
    "$BIN/initdb" -D "$DATA" --no-sync "$@" &&
        printf '%s' "$SETTINGS" >>"$DATA/postgresql.conf" &&
        printf '%s' "$HBA" >"$DATA/pg_hba.conf" &&
        printf '%s' "$IDENT" >"$DATA/pg_ident.conf" &&
        echo "CREATE DATABASE $DATABASE" |
        "$BIN/postgres" --single -D "$DATA" -c exit_on_error=on -c fsync=off template1 &&
        { [ "$DURABLE" = no ] || "$BIN/initdb" --sync-only -D "$DATA"; }
}
