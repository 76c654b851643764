# SPDX-License-Identifier: Apache-2.0
# Publishes one event with Ruby's standard library alone:
#
#     ruby publish.rb http://127.0.0.1:3247 /heat org.example.state k1 '{"n":1}'
#
# A publish is safe to repeat: the relay knows source and id. So try again until it says 202; what it answers
# 400, 409 or 413 will never be taken.

require "json"
require "net/http"
require "securerandom"
require "uri"

GONE_WRONG = [400, 409, 413].freeze

def publish(relay, event)
  uri = URI("#{relay}/events")
  headers = { "content-type" => "application/cloudevents+json" }
  headers["authorization"] = "Bearer #{ENV["FAIRLEAD_API_KEY"]}" if ENV["FAIRLEAD_API_KEY"]
  pause = 0.5
  loop do
    answer = begin
      Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", read_timeout: 35) do |http|
        http.post(uri.path, JSON.generate(event), headers)
      end
    rescue SystemCallError, SocketError, Timeout::Error, IOError, OpenSSL::SSL::SSLError => error
      warn "not reached: #{error.message}"
    end
    return JSON.parse(answer.body)["accepted"].first if answer&.code == "202"
    abort "refused: #{answer.body}" if answer && GONE_WRONG.include?(answer.code.to_i)
    warn "answered #{answer.code}: #{answer.body}" if answer
    sleep(Float(answer&.[]("retry-after") || pause * rand(0.5..1.0)))
    pause = [pause * 2, 60].min
  end
end

abort "usage: ruby publish.rb RELAY SOURCE TYPE SUBJECT DATA_JSON" unless ARGV.length == 5
relay, source, type, subject, data = ARGV
event = {
  specversion: "1.0", id: SecureRandom.uuid, source: source, type: type, subject: subject,
  datacontenttype: "application/json", data: JSON.parse(data)
}
puts JSON.generate(publish(relay, event))
