#!/usr/bin/env bash
# The instance's first and last process: power-off timer, images, agent and trainer containers, power-off.
#
# Rules of this file. Constant: nothing of a job is pasted into it, and what it reads of one is held to a pattern first. It runs in
# bash 3.2 as well: the local cloud runs it unchanged on laptops, with DROPFORGE_ROOT set and stand-ins first on PATH.
# Whatever goes wrong, the machine powers itself off: the timer is set before anything else can fail or hang.
#
# The folder shared with the containers (the same path inside and outside):
#   run/      what the trainer may touch: run.json, model/, data/, checkpoints/, final/, progress.jsonl, stop
#   control/  requests of the agent, answers of this script; no trainer ever sees it
#   incoming/ downloads of the agent that are not whole yet
#   logs/     what this script and the containers print; only this script writes it (a trainer could plant a link in run/)
#   gpus.csv  what nvidia-smi last said; only this script writes it
#   stages    seconds before and after what the agent waited for: its own image is in the first, the training image in neither
#   one-image there where the agent runs from the training image
#
# Comment lines do not reach the machine: EC2's 16 KB of user data are for code (tools/embed_bootstrap.py).
set -uo pipefail

ROOT="${DROPFORGE_ROOT:-}"
ENV_FILE="${DROPFORGE_ENV_FILE:-$ROOT/etc/dropforge/env}"
STATE="$ROOT/var/lib/dropforge"
RUN="$STATE/run"
CONTROL="$STATE/control"
LOGS="$STATE/logs"
IMDS="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"
IMDS="${IMDS%/}"

DEFAULT_LIFE_MIN=30   # without a readable deadline
MAX_LIFE_MIN=131040   # 91 days; a job's longest max_runtime is 90
DEADLINE_GRACE_MIN=5  # the agent stops in time for the deadline; this is for the upload of its last save
HANDED_OVER_MIN=5     # EC2 ends an interrupted instance two minutes after the notice
MAX_AGENT_STARTS=10   # in a row; an agent that lived AGENT_LIVED_S before it died is in a row with none
AGENT_LIVED_S=600
PULL_TRIES=5
POLL_S=0.5
GPU_EVERY_S=5
LOG_EVERY_S=15
LOG_LINES=400         # of 2000 characters: CloudWatch takes a megabyte at once
CONTAINER_USER=10001
GANG_USER=10002 # a gang's trainer, to the firewall
GANG_PORTS=29400:32767
EXIT_FINISHED=0
EXIT_HANDED_OVER=3
EXIT_NO_TICKET=4
EXIT_DENIED=5
EXIT_OTHER_BUILD=6
EXIT_DOCKER=125       # docker's own: the container never ran
BESIDE=''             # processes of this script beside the main one

logged() { tee -a "$LOGS/bootstrap.log"; }
say() { printf '%s dropforge: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" | logged; }

# One tag of this instance, or nothing. IMDSv2: a token first.
imds_tag() {
  local token
  token="$(curl -sf --max-time 3 --retry 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$IMDS/latest/api/token")" || return 0
  curl -sf --max-time 3 --retry 3 -H "X-aws-ec2-metadata-token: $token" "$IMDS/latest/meta-data/tags/instance/$1" || true
}

# First a short timer, which asks nobody; the one that the deadline gives then replaces it.
arm_power_off() {
  local deadline minutes
  shutdown -P "+$DEFAULT_LIFE_MIN" || end_by_force_after "$DEFAULT_LIFE_MIN"
  end_after_reboot
  deadline="$(imds_tag dropforge:deadline)"
  if ! [[ "$deadline" =~ ^[1-9][0-9]{0,10}$ ]]; then
    say "no readable deadline among the instance tags; power-off in $DEFAULT_LIFE_MIN minutes at the latest"
    return
  fi
  minutes=$(((deadline - $(date +%s) + 59) / 60 + DEADLINE_GRACE_MIN))
  if ((minutes < 1)); then minutes=1; fi
  if ((minutes > MAX_LIFE_MIN)); then minutes="$MAX_LIFE_MIN"; fi
  say "power-off in $minutes minutes at the latest"
  shutdown -P "+$minutes" || say "the timer of $DEFAULT_LIFE_MIN minutes stays"
}

# User data runs at the first boot only: after another there is no timer.
end_after_reboot() {
  local folder="$ROOT/var/lib/cloud/scripts/per-boot"
  mkdir -p "$folder"
  printf '#!/bin/sh\nshutdown -P now || systemctl poweroff --force --force\n' >"$folder/dropforge" && chmod +x "$folder/dropforge"
}

# For a machine whose shutdown command fails. Never on a laptop, where ROOT is set: it is not ours.
end_by_force() {
  if [ -z "$ROOT" ]; then systemctl poweroff --force --force; fi
}

end_by_force_after() {
  say "shutdown takes no timer; power-off by force in $1 minutes"
  (sleep "$(($1 * 60))" && end_by_force) &
}

power_off() {
  say "power-off: $*"
  # shellcheck disable=SC2086  # a list of numbers
  if [ -n "$BESIDE" ]; then
    kill $BESIDE 2>/dev/null
    ship_log last
  fi
  shutdown -P now || end_by_force
  exit 0
}

read_stack_facts() {
  # shellcheck source=/dev/null  # written by the head of the user data
  . "$ENV_FILE" || power_off "cannot read $ENV_FILE"
  local name
  for name in DROPFORGE_DATA_BUCKET DROPFORGE_OUTPUTS_BUCKET DROPFORGE_ROLE_ID DROPFORGE_IMAGE; do
    if [ -z "${!name:-}" ]; then power_off "$ENV_FILE does not set $name"; fi
  done
  export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-${AWS_REGION:-}}"
  export DROPFORGE_DATA_BUCKET DROPFORGE_OUTPUTS_BUCKET DROPFORGE_ROLE_ID DROPFORGE_TRACKING
}

make_folders() {
  mkdir -p "$RUN/model" "$RUN/data" "$CONTROL" "$LOGS" "$STATE/incoming"
  # Given up for the trainer's last answer on a full disk.
  head -c 1048576 /dev/zero >"$STATE/ballast"
  if [ "$(id -u)" = 0 ]; then chown -R "$CONTAINER_USER:$CONTAINER_USER" "$RUN" "$CONTROL" "$STATE/incoming"; fi
}

# For a container that gets round the missing network. Host networking (the agent) is not forwarded.
close_imds_to_containers() {
  if command -v iptables >/dev/null; then
    iptables -I DOCKER-USER -d 169.254.169.254 -j DROP || say "iptables refused the rule; the trainer has no network all the same"
  fi
}

# To CloudWatch, what of this log is not there yet; by the AWS CLI, for it must arrive also where docker starts nothing.
# $1 names the caller's own file.
ship_log() {
  local sent=0 total events="$STATE/log-events-$1.json"
  if [ -z "${DROPFORGE_LOG_GROUP:-}" ]; then return 0; fi
  if [ -r "$STATE/log-sent" ]; then read -r sent <"$STATE/log-sent"; fi
  total="$(($(wc -l <"$LOGS/bootstrap.log")))"
  if ((total <= sent)); then return 0; fi
  # Printable ASCII, quoted for JSON, no empty event.
  {
    printf '['
    head -n "$total" "$LOGS/bootstrap.log" | tail -n "$((total - sent))" | tail -n "$LOG_LINES" | LC_ALL=C tr -cd '\12\40-\176' | cut -c1-2000 |
      sed -e 's/[\\"]/\\&/g' -e 's/^$/-/' -e "s/.*/{\"timestamp\":$(date +%s)000,\"message\":\"&\"},/" | sed '$s/,$//'
    printf ']'
  } >"$events"
  put_log_events "$events" || { aws_logs create-log-stream && put_log_events "$events"; } || return 1
  printf '%s\n' "$total" >"$STATE/log-sent"
}

put_log_events() { aws_logs put-log-events --log-events "file://$1"; }

aws_logs() {
  local verb="$1"
  shift
  AWS_MAX_ATTEMPTS=2 aws logs "$verb" --log-group-name "$DROPFORGE_LOG_GROUP" --log-stream-name "$STREAM/bootstrap" "$@" \
    --cli-connect-timeout 5 --cli-read-timeout 10 >/dev/null 2>&1
}

keep_shipping() {
  while :; do
    ship_log beside || sleep 300
    sleep "$LOG_EVERY_S"
  done
}

# Not in the agent's container: a driver that hangs then hangs nobody. The agent goes by the file's age.
watch_gpus() {
  while :; do
    timeout 30 nvidia-smi --query-gpu=index,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits >"$STATE/gpus.new" &&
      mv -f "$STATE/gpus.new" "$STATE/gpus.csv"
    sleep "$GPU_EVERY_S"
  done
}

try_pull() {
  if [[ "$1" == *.dkr.ecr.* ]]; then
    aws ecr get-login-password | docker login --username AWS --password-stdin "${1%%/*}" >/dev/null
  fi
  docker pull "$1"
}

pull_image() {
  local try
  for ((try = 1; try <= PULL_TRIES; try++)); do
    if try_pull "$DROPFORGE_IMAGE" 2>&1 | logged; then return 0; fi
    say "pull failed ($try of $PULL_TRIES)"
    sleep $((try * 2))
  done
  return 1
}

# The agent's own small image first: it stages while the training image is pulled (adr/0020). Where there is none the agent
# is of the training image. Nothing is derived from a digest: whoever gives one trusts no tag.
pull_agent() {
  local began="$SECONDS"
  AGENT_IMAGE=''
  if [[ "$DROPFORGE_IMAGE" != *@* ]]; then AGENT_IMAGE="$DROPFORGE_IMAGE-agent"; fi
  tell_image pulling
  if [ -n "$AGENT_IMAGE" ] && try_pull "$AGENT_IMAGE" 2>&1 | logged; then
    began="$SECONDS"
  else
    say "no image of the agent alone (${AGENT_IMAGE:-the image is given by digest}): it starts once the training image is there"
    : >"$STATE/one-image"
    pull_image || power_off "the image $DROPFORGE_IMAGE could not be pulled"
  fi
  echo "$began $SECONDS" >"$STATE/stages"
}

# To the agent: pulling, failed, or what the training image was built of (Dockerfile.gpu).
tell_image() { printf '%s\n' "$1" >"$CONTROL/image.new" && mv -f "$CONTROL/image.new" "$CONTROL/image"; }

bring_training_image() {
  if [ ! -e "$STATE/one-image" ] && ! pull_image; then
    say "the image $DROPFORGE_IMAGE could not be pulled"
    tell_image failed
  else
    tell_image "$(docker run --rm --read-only --network=none --entrypoint=cat "$DROPFORGE_IMAGE" /opt/dropforge/build 2>/dev/null || echo unknown)"
  fi
}

# Options of every container; $1 is agent or trainer, $2 its user. Sets OPTIONS.
container_options() {
  OPTIONS=(--rm "--name=dropforge-$1" --read-only --cap-drop=ALL --security-opt=no-new-privileges --pids-limit=4096 "--user=$2:$CONTAINER_USER")
  if [ -n "${DROPFORGE_LOG_GROUP:-}" ] && [ ! -e "$STATE/no-awslogs" ]; then
    OPTIONS+=(--log-driver=awslogs "--log-opt=awslogs-region=$AWS_DEFAULT_REGION" "--log-opt=awslogs-group=$DROPFORGE_LOG_GROUP")
    # By docker's default a stalled CloudWatch stalls the heartbeat.
    OPTIONS+=("--log-opt=awslogs-stream=$STREAM/$1" --log-opt=mode=non-blocking --log-opt=max-buffer-size=4m)
  fi
}

run_agent() {
  local name image="$AGENT_IMAGE"
  if [ -e "$STATE/one-image" ]; then image="$DROPFORGE_IMAGE"; fi
  container_options agent "$CONTAINER_USER"
  OPTIONS+=(--network=host "--tmpfs=/tmp:rw,nosuid,nodev,size=1g" "--workdir=$STATE")
  OPTIONS+=("--mount=type=bind,src=$STATE,dst=$STATE" "--mount=type=bind,src=$LOGS,dst=$LOGS,readonly")
  for name in DROPFORGE_DATA_BUCKET DROPFORGE_OUTPUTS_BUCKET DROPFORGE_ROLE_ID DROPFORGE_TRACKING AWS_DEFAULT_REGION AWS_ENDPOINT_URL \
    AWS_EC2_METADATA_SERVICE_ENDPOINT; do
    OPTIONS+=("--env=$name")
  done
  docker rm -f dropforge-agent >/dev/null 2>&1
  docker run "${OPTIONS[@]}" "$image" agent "$STATE" >>"$LOGS/agent.log" 2>&1
}

# A gang's trainers reach each other and nothing else (adr/0013). Where this fails none starts.
open_gang_network() {
  local address addresses
  addresses="$(tr '\n' ' ' <"$CONTROL/gang")"
  if ! [[ "$addresses" =~ ^(([0-9]{1,3}\.){3}[0-9]{1,3}\ )+$ ]]; then return 1; fi
  sysctl -q -w "net.ipv4.ip_local_port_range=29401 32767" || return 1
  new_chain gang-out && new_chain gang-in || return 1
  for address in 127.0.0.1 $addresses; do
    iptables -w -A gang-out -p tcp -d "$address" --dport "$GANG_PORTS" -j RETURN && iptables -w -A gang-in -s "$address" -j RETURN || return 1
  done
  iptables -w -A gang-out -j REJECT && iptables -w -A gang-in -j DROP &&
    put_first iptables OUTPUT -m owner --uid-owner "$GANG_USER" -j gang-out &&
    put_first iptables INPUT -p tcp --syn --dport "$GANG_PORTS" -j gang-in &&
    put_first ip6tables OUTPUT -m owner --uid-owner "$GANG_USER" -j REJECT
}

new_chain() { iptables -w -N "$1" 2>/dev/null || iptables -w -F "$1"; }

put_first() { "$1" -w -C "${@:2}" 2>/dev/null || "$1" -w -I "${@:2}"; }

start_trainer() {
  if [ -e "$CONTROL/gang" ]; then
    if ! open_gang_network; then
      say "the firewall refuses the gang's rules"
      (exit 78) &
      return
    fi
    container_options trainer "$GANG_USER"
    OPTIONS+=(--network=host --env=HOME=/tmp --env=USER=dropforge)
    chmod -R g+rwX "$RUN"
  else
    container_options trainer "$CONTAINER_USER"
    OPTIONS+=(--network=none)
  fi
  OPTIONS+=(--shm-size=2g "--tmpfs=/tmp:rw,exec,nosuid,nodev,size=8g" "--workdir=$RUN" "--mount=type=bind,src=$RUN,dst=$RUN")
  OPTIONS+=("--mount=type=bind,src=$RUN/model,dst=$RUN/model,readonly" "--mount=type=bind,src=$RUN/data,dst=$RUN/data,readonly")
  if command -v nvidia-smi >/dev/null; then OPTIONS+=(--gpus=all); fi
  docker rm -f dropforge-trainer >/dev/null 2>&1
  docker run "${OPTIONS[@]}" "$DROPFORGE_IMAGE" trainer run "$RUN/run.json" >>"$LOGS/trainer.log" 2>&1 &
}

# One request: control/trainer.start holds its number; control/trainer.exit answers "<number> <exit status>".
serve_trainer_request() {
  local request='' trainer status
  mv -f "$CONTROL/trainer.start" "$CONTROL/trainer.running" || return
  read -r request <"$CONTROL/trainer.running"
  if ! [[ "$request" =~ ^[0-9]{1,6}$ ]]; then
    say "unreadable trainer request; ignored"
    return
  fi
  say "trainer starts (request $request)"
  start_trainer
  trainer=$!
  while kill -0 "$trainer" 2>/dev/null; do
    if [ -e "$CONTROL/trainer.kill" ]; then
      rm -f "$CONTROL/trainer.kill"
      docker kill dropforge-trainer
    fi
    sleep "$POLL_S"
  done
  wait "$trainer"
  status=$?
  say "trainer ended with exit status $status (request $request)"
  # Without the answer the agent waits for this trainer for ever.
  until printf '%s %s\n' "$request" "$status" >"$CONTROL/trainer.exit.new" && mv -f "$CONTROL/trainer.exit.new" "$CONTROL/trainer.exit"; do
    say "the trainer's end cannot be written; tried again"
    rm -f "$STATE/ballast"
    sleep 2
  done
  rm -f "$CONTROL/trainer.running"
}

serve_trainer() {
  bring_training_image
  while :; do
    if [ -e "$CONTROL/trainer.start" ]; then serve_trainer_request; fi
    sleep "$POLL_S"
  done
}

# Runs the agent until its last word; a trainer runs on while a died agent comes back.
supervise_agent() {
  local deaths=0 status began
  while :; do
    began="$SECONDS"
    run_agent
    status=$?
    case "$status" in "$EXIT_FINISHED" | "$EXIT_HANDED_OVER" | "$EXIT_NO_TICKET" | "$EXIT_DENIED") return "$status" ;; esac
    if ((SECONDS - began >= AGENT_LIVED_S)); then deaths=0; fi
    deaths=$((deaths + 1))
    say "the agent died with exit status $status ($deaths of $MAX_AGENT_STARTS)"
    if ((status == EXIT_OTHER_BUILD)); then
      say "it is of another build than the training image (its log names both); from now on it is that image's own"
      : >"$STATE/one-image"
    fi
    if ((deaths >= MAX_AGENT_STARTS)); then return "$status"; fi
    if ((status == EXIT_DOCKER)) && [ ! -e "$STATE/no-awslogs" ]; then
      say "docker did not start it; from now on the containers log to files only"
      # A file, for the trainer is started by another process.
      : >"$STATE/no-awslogs"
    fi
    sleep $((deaths < 5 ? deaths : 15))
  done
}

main() {
  local server status
  mkdir -p "$ROOT/run/dropforge" "$LOGS"
  printf '%s\n' "$$" >"$ROOT/run/dropforge/bootstrap.pid"
  arm_power_off
  read_stack_facts
  make_folders
  close_imds_to_containers
  STREAM="$(imds_tag dropforge:job)/$(imds_tag dropforge:attempt)"
  if ! [[ "$STREAM" =~ ^[a-z0-9-]{1,63}/[0-9]{1,4}$ ]]; then STREAM="unnamed/0"; fi
  keep_shipping >/dev/null 2>&1 &
  BESIDE="$!"
  if command -v nvidia-smi >/dev/null; then
    watch_gpus >/dev/null 2>&1 &
    BESIDE="$BESIDE $!"
  fi
  pull_agent
  serve_trainer &
  server=$!
  supervise_agent
  status=$?
  kill "$server" 2>/dev/null
  docker kill dropforge-trainer >/dev/null 2>&1
  if ((status == EXIT_HANDED_OVER)); then
    # Where EC2 ends it in the first hour, that hour is free: only a timer, in case it does not.
    say "handed over; left to EC2, power-off in $HANDED_OVER_MIN minutes at the latest"
    shutdown -P "+$HANDED_OVER_MIN"
    sleep $((HANDED_OVER_MIN * 60 + 60))
  fi
  power_off "the agent ended with exit status $status"
}

main
