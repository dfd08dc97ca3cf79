-- A client that keeps its connections and sends the same request again and again.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
wrk.headers["User-Agent"] = "python-requests/2.32.3"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["Accept"] = "*/*"
wrk.body = '{"data": [[0.0199132141783263, 0.0506801187398187, 0.104808689473925, ' ..
  '0.0700725447072635, -0.0359677812752396, -0.0266789028311707, -0.0249926566315915, ' ..
  '-0.00259226199818282, 0.00371173823343597, 0.0403433716478807]]}'
