#!/bin/sh
# Starts coturn with turnserver.conf and the environment variables below. Writes the secret to a file that only this user can
# read, because every user of the machine can read command lines.
#
#   TURN_SECRET          the secret that coturn and room-signaling share; required
#   TURN_REALM           the name of the relay; required
#   TURN_EXTERNAL_IP     behind NAT: the public address, or PUBLIC/PRIVATE
#   TURN_ALLOWED_PEERS   addresses (192.168.1.5) and ranges (192.168.1.0-192.168.1.255), separated by spaces, that
#                        are allowed although turnserver.conf denies them
#
# Arguments are passed to coturn.
set -eu
umask 077
: "${TURN_SECRET:?a secret of at least 32 characters}" "${TURN_REALM:?the name of the relay}"

config=$(mktemp)
{
    cat "$(dirname "$0")/turnserver.conf"
    printf 'static-auth-secret=%s\nrealm=%s\n' "$TURN_SECRET" "$TURN_REALM"
    if [ -n "${TURN_EXTERNAL_IP:-}" ]; then
        printf 'external-ip=%s\n' "$TURN_EXTERNAL_IP"
        # coturn checks the private address of the pair when one relayed peer sends to another.
        case "$TURN_EXTERNAL_IP" in */*) printf 'allowed-peer-ip=%s\n' "${TURN_EXTERNAL_IP#*/}" ;; esac
    fi
    for range in ${TURN_ALLOWED_PEERS:-}; do printf 'allowed-peer-ip=%s\n' "$range"; done
    printf 'pidfile=%s.pid\nuserdb=%s.db\n' "$config" "$config"
} >"$config"
unset TURN_SECRET
exec turnserver -c "$config" "$@"
