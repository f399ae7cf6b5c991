"""How much a process still computes once Ctrl-C has been pressed during a call."""

from __future__ import annotations

# `delay(call, after)`: seconds of processor time, of all threads, from the signal to the
# exception. Processor time, and the least of three, because other processes may hold up a run.
DELAY = """
    import signal, threading, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

    def once(call, after):
        sent = []
        def interrupt():
            sent.append(time.process_time())
            signal.raise_signal(signal.SIGINT)
        timer = threading.Timer(after, interrupt)
        timer.start()
        try:
            while True:  # a call may take less than the timer
                call()
        except KeyboardInterrupt:
            late = time.process_time() - sent[0]
        timer.join()
        return late

    def delay(call, after):
        best = float("inf")
        for _ in range(3):
            best = min(best, once(call, after))
            if best < MOST / 2:
                break
        return best
"""
MOST = 0.2  # the pool looks for signals every 50 ms
DELAY = DELAY.replace("MOST", str(MOST))
