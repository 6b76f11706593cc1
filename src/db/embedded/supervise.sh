# Runs a throw-away server in $DIR for as long as the process that holds the other end of stdin lives. The kernel
# closes that end however the process dies, so this shell always gets to stop the server and remove the directory.
# What it prints, the end of the server's log, matters only where the server did not come up.
mkdir -m 0700 "$DIR" || exit 1 # Never a directory that somebody else made.
DATA=$DIR/data
server=
stopped=no

# Repeated, since a signal that arrives before the server has set up its handlers is lost.
stop_server() {
    tries=0
    while [ -n "$server" ] && kill -QUIT "$server"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || kill -KILL "$server"
        sleep 0.05
    done
}

trap '' INT
trap 'stopped=yes; stop_server >/dev/null 2>&1 &' TERM HUP

exec 3<&0 </dev/null
if initialise "$@" >"$DIR/log" 2>&1 3<&- && [ "$stopped" = no ]; then
    # In the background a shell may tie stdin to /dev/null, so the pipe is passed by number.
    "$BIN/postgres" -D "$DATA" -k "$DIR" >>"$DIR/log" 2>&1 3<&- &
    server=$!
    {
        read -r _ <&3
        : >"$DIR/over"
        stop_server
    } >/dev/null 2>&1 &
    watcher=$!
    wait "$server"
    wait "$server" # A trap ends the first one early.
    # Killed only while it reads; once it stops the server it ends by itself, and not before its `sleep`.
    [ -e "$DIR/over" ] || kill "$watcher"
    wait "$watcher"
fi 2>/dev/null
tail -n 20 "$DIR/log" | tail -c 4000
tries=0
until rm -rf "$DIR" || [ "$tries" -eq 20 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
