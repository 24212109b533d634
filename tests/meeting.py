"""Two processes that need one file at once."""

import multiprocessing
import time


class Meeting:
    """Two forked processes that need one file at once: the first to create it waits until the second also needs it.

    The work appends a line to a file for each file it makes, so that a test can count them.
    """

    def __init__(self, folder):
        self.context = multiprocessing.get_context("fork")
        self.making, self.wanted = self.context.Event(), self.context.Event()
        self.results = self.context.SimpleQueue()
        self.file = folder / "made.txt"

    def wait(self, name):
        """Record that a process makes a file, and let the other one need it meanwhile."""
        with open(self.file, "a") as file:
            file.write(f"{name}\n")
        if not self.making.is_set():
            self.making.set()
            assert self.wanted.wait(60)
            time.sleep(0.3)  # for the second to get as far as it can

    def of(self, work):
        """Call the work in both processes; return both results, an error as its text."""

        def second():
            assert self.making.wait(60)
            self.wanted.set()
            return work()

        def put_result(call):
            try:
                self.results.put(call())
            except BaseException as error:
                self.results.put(f"{type(error).__name__}: {error}")

        processes = [self.context.Process(target=put_result, args=(call,)) for call in (work, second)]
        for process in processes:
            process.start()
        results = [self.results.get() for _ in processes]
        for process in processes:
            process.join()
        return results
