"""What every package uses: user errors, atomic files, the files of a trial, git facts, intervals and threads."""
