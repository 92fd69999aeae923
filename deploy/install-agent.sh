#!/bin/sh
# Install, upgrade, roll back and remove certctl-agent from the one file that scripts/build-agent makes. Downloads nothing.
#
#   install-agent.sh install  --file FILE --sha256 HEX --server URL [--ca-bundle FILE] [--name NAME] [--token-file FILE]
#   install-agent.sh upgrade  --file FILE --sha256 HEX
#   install-agent.sh rollback
#   install-agent.sh uninstall [--remove-keys | --keep-keys]
#
# Everywhere: --dry-run prints what it would do and does nothing; --root DIR works on a tree that is not / (nothing is started
# there); --no-start leaves the service alone. --sha256 may be the digest or the .sha256 file that came with FILE. Without
# --token-file the token is taken from CERTCTL_AGENT_ENROLMENT_TOKEN; a host that is enrolled already needs none.
#
# Killed anywhere, it leaves the old agent or the new one, whole; run again, it ends what it began.
set -eu
umask 022

action=${1:-}
[ $# -gt 0 ] && shift
file='' sha256='' server='' ca_bundle='' name='' token_file='' root='' dry='' start=yes keys=ask
# how long a new agent may take to be seen running, and how long it must stay so, in seconds
start_seconds=${START_SECONDS:-60} settle_seconds=${SETTLE_SECONDS:-3}
systemctl=${SYSTEMCTL:-systemctl}

say() { printf '%s\n' "install-agent: $*"; }
fail() {
  printf '%s\n' "install-agent: $*" >&2
  exit 1
}
usage() {
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
# Everything that changes this host goes through here, so that a dry run shows all of it.
run() {
  if [ -n "$dry" ]; then printf 'would: %s\n' "$*"; else "$@"; fi
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=yes ;;
    --no-start) start='' ;;
    --remove-keys) keys=remove ;;
    --keep-keys) keys=keep ;;
    --file | --sha256 | --server | --ca-bundle | --name | --token-file | --root)
      [ $# -gt 1 ] || usage
      case $1 in
        --file) file=$2 ;;
        --sha256) sha256=$2 ;;
        --server) server=$2 ;;
        --ca-bundle) ca_bundle=$2 ;;
        --name) name=$2 ;;
        --token-file) token_file=$2 ;;
        --root) root=${2%/} ;;
      esac
      shift
      ;;
    *) usage ;;
  esac
  shift
done

case $root in '' | /*) ;; *) fail "--root must be an absolute path, not $root" ;; esac
here=$(cd "$(dirname "$0")" && pwd)
lib=$root/usr/local/lib/certctl-agent
program=$root/usr/local/bin/certctl-agent
etc=$root/etc/certctl
unit=$root/etc/systemd/system/certctl-agent.service
state=$root/var/lib/certctl/agent
key_dir=$root/var/lib/certctl/keys
# in a tree that is not / nothing runs, unless SYSTEMCTL names what runs it there
if [ -n "$root" ] && [ -z "${SYSTEMCTL:-}" ]; then start=''; fi
if [ -n "$start" ] && [ -z "${SYSTEMCTL:-}" ] && [ ! -d /run/systemd/system ]; then
  say "systemd does not run here: start certctl-agent by your own service manager"
  start=''
fi

agent() { "$program" "$@" --state-dir "$state" --key-dir "$key_dir"; }
enrolled() { [ -e "$state/agent.json" ]; }
# the file that a link of ours names, or nothing
named() { if [ -L "$1" ]; then basename "$(readlink "$1")"; fi; }

# A link to a file is replaced by rename(2): whoever looks sees the old one or the new one.
link() {
  run ln -s "$1" "$2.new.$$"
  run mv -f "$2.new.$$" "$2"
}

# Read from a file into place, whole or not at all.
put() {
  run cp "$1" "$2.new.$$"
  run chmod "$3" "$2.new.$$"
  run mv -f "$2.new.$$" "$2"
}

folder() { [ -d "$2" ] || run mkdir -p -m "$1" "$2"; }

# One installer a host; the kernel frees the lock of one that is killed.
alone() {
  [ -n "$dry" ] && return 0
  folder 755 "$lib"
  if command -v flock >/dev/null 2>&1; then
    exec 9>"$lib/lock"
    flock -n 9 || fail "another install-agent.sh is at work here"
  fi
}

leftovers() {
  for left in "$lib"/*.new.* "$program".new.* "$etc"/*.new.* "$unit".new.*; do
    if [ -e "$left" ] || [ -L "$left" ]; then run rm -f "$left"; fi
  done
}

digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# Sets `wanted`: FILE's name in our own folder. Refuses a file whose digest is another, or that cannot run here.
judge() {
  if [ -z "$file" ] || [ -z "$sha256" ]; then usage; fi
  [ -f "$file" ] || fail "there is no file $file"
  [ -f "$here/systemd/certctl-agent.service" ] || fail "systemd/certctl-agent.service is not beside this script"
  if [ -f "$sha256" ]; then expected=$(cut -d ' ' -f 1 <"$sha256"); else expected=$sha256; fi
  case $expected in *[!0-9a-f]* | '') fail "--sha256 takes 64 hex digits in lower case, or a file that begins with them" ;; esac
  [ ${#expected} -eq 64 ] || fail "--sha256 takes 64 hex digits, and there are ${#expected}"
  found=$(digest "$file")
  [ "$found" = "$expected" ] || fail "$file is not what was published: its SHA-256 is $found, expected $expected"
  wanted=certctl-agent-$(printf '%.16s' "$expected")
}

# Puts FILE under its own name beside the others, and looks at the copy, not at what somebody may exchange meanwhile.
bring() {
  folder 755 "$lib"
  if [ ! -e "$lib/$wanted" ]; then put "$file" "$lib/$wanted" 755; fi
  put "$here/systemd/certctl-agent.service" "$lib/$wanted.service" 644
  [ -n "$dry" ] && return 0
  [ "$(digest "$lib/$wanted")" = "$expected" ] || {
    rm -f "$lib/$wanted"
    fail "$lib/$wanted came out different from what was published; it is removed, try again"
  }
  folders
  CERTCTL_AGENT_STATE_DIR=$state "$lib/$wanted" --version >/dev/null || fail "$file does not run on this host; nothing is changed"
}

folders() {
  folder 755 "$root/var/lib/certctl"
  folder 700 "$state"
  folder 700 "$key_dir"
}

# A process of the agent that holds its state folder: its id, or nothing.
holder() {
  if CERTCTL_AGENT_STATE_DIR=$state "$program" status --json 2>/dev/null | grep -q '"running": true'; then
    head -n 1 "$state/lock" 2>/dev/null || :
  fi
}

# The agent runs, and it is the same process a moment later: one that dies at once and is started again does not count.
runs() {
  waited=0
  while [ "$waited" -lt "$start_seconds" ]; do
    first=$(holder)
    if [ -n "$first" ]; then
      sleep "$settle_seconds"
      [ "$(holder)" = "$first" ] && return 0
      waited=$((waited + settle_seconds))
    fi
    sleep 1
    waited=$((waited + 1))
  done
  return 1
}

restart() {
  [ -n "$start" ] || return 0
  run "$systemctl" daemon-reload
  run "$systemctl" restart certctl-agent.service || return 1
  [ -n "$dry" ] || runs
}

# Only what is used and what a rollback would use stays; what a release unpacked goes with it.
prune() {
  current=$(named "$program") previous=$(named "$lib/previous")
  for old in "$lib"/certctl-agent-????????????????; do
    base=$(basename "$old")
    if [ -e "$old" ] && [ "$base" != "$current" ] && [ "$base" != "$previous" ] && [ "$base" != "${wanted:-}" ]; then
      run rm -f "$old.service" "$old"
      for unpacked in "$state/unpacked/$base"_* "$state/unpacked/.$base"_*; do
        if [ -e "$unpacked" ]; then run rm -rf "$unpacked"; fi
      done
    fi
  done
}

# Makes a release the agent: its unit, which starts older ones as well, then its program.
activate() {
  if ! cmp -s "$lib/$1.service" "$unit"; then put "$lib/$1.service" "$unit" 644; fi
  if [ "$(named "$program")" != "$1" ]; then link "../lib/certctl-agent/$1" "$program"; fi
}

# Makes `wanted` the agent and starts it; one that does not start gives its place back.
swap() {
  current=$(named "$program") earlier=$(named "$lib/previous")
  if [ -n "$current" ] && [ "$current" != "$wanted" ]; then link "$current" "$lib/previous"; fi
  activate "$wanted"
  if restart; then return 0; fi
  previous=$(named "$lib/previous")
  if [ -z "$previous" ] || [ "$previous" = "$wanted" ] || [ ! -e "$lib/previous" ]; then
    fail "the agent does not start; look at: journalctl -u certctl-agent, certctl-agent doctor"
  fi
  say "the new agent does not start: going back to $previous" >&2
  activate "$previous"
  if [ -n "$earlier" ] && [ -e "$lib/$earlier" ]; then link "$earlier" "$lib/previous"; fi
  # going back is given its full time, however little the new one was given
  [ "$start_seconds" -ge 60 ] || start_seconds=60
  restart || fail "the old agent does not start either; look at: journalctl -u certctl-agent, certctl-agent doctor"
  fail "the new agent did not start; the old one runs again"
}

settings() {
  [ -e "$etc/agent.env" ] && return 0
  if [ -n "$dry" ]; then
    printf 'would: write %s (0600)\n' "$etc/agent.env"
    return 0
  fi
  (
    umask 077
    {
      printf '# Settings of certctl-agent; every name stands in docs/reference/agent-configuration.md.\n'
      printf 'CERTCTL_SERVER_URL=%s\n' "$server"
      [ -z "$ca_bundle" ] || printf 'CERTCTL_SERVER_CA_BUNDLE_PATH=%s\n' /etc/certctl/server-ca.pem
    } >"$etc/agent.env.new.$$"
  )
  mv -f "$etc/agent.env.new.$$" "$etc/agent.env"
}

allow() {
  [ -e "$etc/allow.toml" ] && return 0
  if [ -n "$dry" ]; then
    printf 'would: write %s, which allows nothing\n' "$etc/allow.toml"
    return 0
  fi
  {
    printf '# What certctl may write and run on this host: nothing, until you say so here. docs/operator/targets.md has the lines.\n'
    printf '# [[folder]]\n# path = "/etc/nginx/tls"\n'
  } >"$etc/allow.toml.new.$$"
  mv -f "$etc/allow.toml.new.$$" "$etc/allow.toml"
}

enrol() {
  if enrolled; then
    say "this host is enrolled already"
    return 0
  fi
  if [ -n "$dry" ]; then
    printf 'would: enrol at %s\n' "$server"
    return 0
  fi
  if [ -n "$token_file" ]; then
    [ -r "$token_file" ] || fail "the token file $token_file cannot be read"
    CERTCTL_AGENT_ENROLMENT_TOKEN=$(cat "$token_file")
  fi
  [ -n "${CERTCTL_AGENT_ENROLMENT_TOKEN:-}" ] ||
    fail "no enrolment token; make one (certctl agents token) and give --token-file FILE. All else is in place: run this again"
  export CERTCTL_AGENT_ENROLMENT_TOKEN
  set -- --server "$server" --name "${name:-$(uname -n)}"
  if [ -e "$etc/server-ca.pem" ]; then set -- "$@" --ca-bundle "$etc/server-ca.pem"; fi
  agent enrol "$@" || fail "enrolment failed. All else is in place: run this again with a good token"
}

install_agent() {
  judge
  if ! enrolled; then [ -n "$server" ] || usage; fi
  [ -z "$ca_bundle" ] || [ -r "$ca_bundle" ] || fail "the CA bundle $ca_bundle cannot be read"
  alone
  leftovers
  bring
  folders
  folder 755 "$etc"
  folder 755 "$(dirname "$program")"
  folder 755 "$(dirname "$unit")"
  if [ -n "$ca_bundle" ]; then put "$ca_bundle" "$etc/server-ca.pem" 644; fi
  settings
  allow
  # before the first start, for an agent that is not enrolled does not start
  if [ -z "$(named "$program")" ]; then activate "$wanted"; fi
  enrol
  if [ -n "$start" ]; then
    run "$systemctl" daemon-reload
    run "$systemctl" enable certctl-agent.service
  fi
  swap
  prune
  say "installed $wanted"
}

upgrade_agent() {
  judge
  [ -L "$program" ] || fail "certctl-agent is not installed here; use: install-agent.sh install"
  alone
  leftovers
  bring
  swap
  prune
  say "upgraded to $wanted; install-agent.sh rollback goes back"
}

rollback_agent() {
  previous=$(named "$lib/previous")
  if [ ! -e "$lib/previous" ] || [ "$previous" = "$(named "$program")" ]; then fail "there is no earlier agent to go back to"; fi
  alone
  wanted=$previous
  swap
  say "went back to $wanted"
}

uninstall_agent() {
  if [ "$keys" = ask ] && [ -d "$root/var/lib/certctl" ]; then
    if [ -t 0 ] && [ -z "$dry" ]; then
      printf '%s' "Remove the private keys and this host's identity ($key_dir, $state) too? They cannot be brought back. [y/N] "
      read -r answer || answer=''
      case $answer in y | Y | yes) keys=remove ;; *) keys=keep ;; esac
    else
      keys=keep
    fi
  fi
  if [ -d "$lib" ]; then alone; fi
  if [ -n "$start" ] && [ -e "$unit" ]; then
    run "$systemctl" disable --now certctl-agent.service || say "the service could not be stopped" >&2
  fi
  for gone in "$unit" "$program"; do
    if [ -e "$gone" ] || [ -L "$gone" ]; then run rm -f "$gone"; fi
  done
  if [ -n "$start" ]; then run "$systemctl" daemon-reload; fi
  if [ -d "$lib" ]; then run rm -rf "$lib"; fi
  if [ -d "$state/unpacked" ]; then run rm -rf "$state/unpacked"; fi
  leftovers
  if [ "$keys" = remove ]; then
    for gone in "$state" "$key_dir" "$etc/agent.env"; do
      if [ -e "$gone" ]; then run rm -rf "$gone"; fi
    done
    say "removed, keys and identity with it. On the server: certctl agents retire"
  else
    say "removed. Kept: $key_dir, $state, $etc (uninstall --remove-keys removes keys and identity)"
  fi
}

case $action in
  install) install_agent ;;
  upgrade) upgrade_agent ;;
  rollback) rollback_agent ;;
  uninstall) uninstall_agent ;;
  *) usage ;;
esac
