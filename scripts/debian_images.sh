#!/usr/bin/env bash
# Freely licensed photographs and textures of Debian 12's packages, as images for
# `autosearch supernet distill --images DIR`. Needs apt-get and dpkg, but neither root nor room
# in the system: packages are downloaded and unpacked, not installed (1.9 GB, then 2.3 GB).
# Usage: scripts/debian_images.sh DIR [PACKAGE ...]
set -euo pipefail
target=${1:?usage: scripts/debian_images.sh DIR [PACKAGE ...]}
shift
if [ $# -eq 0 ]; then
  set -- supertuxkart-data openarena-081-textures nexuiz-textures ufoai-textures torcs-data \
    trigger-rally-data gnome-backgrounds
fi
mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for package in "$@"; do
  apt-get download "$package"
  mkdir -p "$target/$package"
  dpkg -x "$package"_*.deb "$target/$package"
  rm "$package"_*.deb
  echo "$package: $(find "$target/$package" -type f | wc -l) files," \
    "licences in usr/share/doc/$package/copyright"
done
